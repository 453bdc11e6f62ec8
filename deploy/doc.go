// Package deploy holds everything that puts Cocoon on machines. It has no production code: it is a folder of files with
// a package of tests around them, because a deployment file that nothing checks is wrong within a month.
//
// Start with README.md, which has a path for each kind of operator. What is here:
//
//	docker-compose.yml, docker/   all roles on one Docker host, on SIMULATED hardware, with a three-node NATS cluster
//	helm/cocoon/                  the Helm chart: control, broker, gateway, settlement, dashboard, workers, KEDA scaling
//	systemd/                      units for machines without containers, one per role
//	tdx/                          the guest image of a confidential worker or broker, its build and its launch under QEMU
//	policy/                       example policies and catalogues, and the measurements of the simulated images
//	prometheus/, runbooks/        alert rules with unit tests, and one page per alert that says what to do
//	grafana/                      dashboards
//	cocoon.example.yaml           the configuration file with every section and key explained
//	fuzz.sh, check.sh, check/     run every fuzz target; the vendors' own linters and schemas (Helm, promtool, Grafana, Kubernetes)
//
// What the tests hold to:
//
//   - Every command line in this folder, in whatever kind of file, names verbs and flags that the program really has:
//     they are read from the help of the program itself.
//   - Every metric in an alert or a dashboard is one that the code really exports: they are read from the collectors.
//   - Every alert has a runbook, every runbook an alert, and every alert fires and stays silent in a unit test for promtool
//     (run by check.sh).
//   - The compose file runs, as processes of this machine, and so does a network on the production layout with TLS.
//   - The example configuration loads through the program, and no key of any section is missing from it.
//   - The chart renders with every set of values in helm/cocoon/ci, and its objects agree with each other: ports that
//     are served, labels that select, secrets and volumes that are mounted.
//   - What can be built here is reproducible: two builds in two folders give the same bytes.
//
// What they cannot hold to is said where it matters: nothing here was run on real TDX hardware or a real GPU, and base
// images are pinned by version, not by digest.
package deploy
