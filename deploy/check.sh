#!/bin/sh
# Runs the vendors' own checks over this folder: helm lint and template with every set of values in helm/cocoon/ci, and
# promtool's check and unit tests of the alerts. The tools are taken from PATH, or built as Go modules of the pinned
# versions: minutes and a gigabyte of modules the first time.
set -eu
cd "$(dirname "$0")"

helm() { if command -v helm >/dev/null; then command helm "$@"; else go run helm.sh/helm/v3/cmd/helm@v3.20.0 "$@"; fi; }
promtool() {
	if command -v promtool >/dev/null; then command promtool "$@"; else go run github.com/prometheus/prometheus/cmd/promtool@v0.316.0 "$@"; fi
}

for values in helm/cocoon/ci/*.yaml; do
	echo "== helm: $values"
	helm lint --strict helm/cocoon -f "$values"
	helm template net helm/cocoon --kube-version 1.30.0 -f "$values" >/dev/null
done
echo "== our renderer beside helm's"
go test -count=1 -tags helm -run TestChartRendersAsHelmDoes .
echo "== promtool"
promtool check rules prometheus/cocoon.rules.yml
promtool test rules prometheus/cocoon.rules.test.yml
