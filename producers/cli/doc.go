// Package cli has the verbs of those who ask for work: `cocoon job`, `cocoon batch`, `cocoon models` and `cocoon
// gateway`, and the benchmarks of gateway and batch.
//
// Each exported function returns a *cobra.Command; package main hangs them into the tree. Wiring only: what the verbs
// do is in producers, producers/batch, producers/gateway and producers/slice.
//
// All of them speak for one tenant. Who that is and whom it trusts comes from flags, then the environment, then the
// data folder of `cocoon up` on the same machine:
//
//	--nats       NATS_URL          where the network is (default nats://127.0.0.1:4222)
//	--creds      NATS_CREDS        credentials file
//	--trust      COCOON_TRUST      root keys and environment (default DATA/trust.json)
//	--tenant     COCOON_TENANT     identity file (default DATA/tenant-local.json)
//	--state      COCOON_STATE      what was submitted: jobs.db and batches/ (default DATA/producer)
//	--data       COCOON_DATA       the data folder of `cocoon up`
//
// Data goes to standard output, progress to standard error: a bar on a terminal, plain lines elsewhere. When the
// environment is simulated, every verb that submits says so. Exit codes are those of schemas/cli: 3 when some lines of
// a batch failed, 4 when there is no such job or batch, 5 when the network is not what the tenant trusts, 130 after
// Ctrl-C, which only detaches: the jobs go on and the verb prints the command that takes them up again.
package cli
