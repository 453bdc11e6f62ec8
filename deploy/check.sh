#!/bin/sh
# Holds this folder to the tools and schemas of those who read it, all of them Go modules of pinned versions:
#
#   promtool      lints the alerts and runs their unit tests
#   Grafana SDK   reads the dashboards strictly
#   Helm          lints and renders the chart with every set of values in helm/cocoon/ci
#   kubeconform   holds what it rendered to the schemas of Kubernetes, KEDA and the Prometheus operator
#
# Tools in PATH are taken; others are built once, which takes minutes the first time and memory: hence one at a time.
set -eu
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
PATH=$bin:$PATH

# have NAME PACKAGE builds a tool unless there is one.
have() { command -v "$1" >/dev/null || { echo "== building $1" && GOBIN=$bin go install "$2"; }; }
have promtool github.com/prometheus/prometheus/cmd/promtool@v0.316.0
have helm helm.sh/helm/v3/cmd/helm@v3.20.0

echo "== promtool"
promtool check rules prometheus/cocoon.rules.yml
promtool test rules prometheus/cocoon.rules.test.yml
promtool check config --syntax-only prometheus/prometheus.yml

echo "== dashboards"
(cd check && go vet ./... && go test -count=1 ./...)

echo "== chart"
(cd check && go run ./schemas "$bin" && go build -o "$bin" github.com/yannh/kubeconform/cmd/kubeconform)
for values in helm/cocoon/ci/*.yaml; do
	echo "$values"
	helm lint --strict --quiet helm/cocoon -f "$values"
	helm template net helm/cocoon --kube-version 1.30.0 -f "$values" >"$bin/rendered.yaml"
	kubeconform -strict -summary -schema-location "$bin/{{.ResourceKind}}{{.KindSuffix}}.json" "$bin/rendered.yaml"
done
echo "== our renderer beside helm's"
go test -count=1 -tags helm -run TestChartRendersAsHelmDoes .
