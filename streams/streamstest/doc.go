// Package streamstest gives every test a NATS server of its own, faults on demand, fake time and a cluster to kill.
//
// Start with [New]: a private server with the topology applied, and a bus on it. [NewWith] has options, [Connect] opens
// further connections, and [Job] makes jobs that pass every check. Real parts only: the server is nats-server with
// file storage in the test's own folder.
//
//   - [Faults] makes writes fail in the two ways that matter: lost, or done but reported as failed.
//   - [Bubble] runs a test with a whole server under fake time: leases, retries and windows of hours in milliseconds.
//   - [NewProcess] runs a server in a process of its own, to be killed with SIGKILL and started again on its state.
//   - [NewCluster] runs three servers as processes of their own, to be killed likewise.
//
// Everything ends with the test; nothing is shared between tests, so they may all run in parallel.
package streamstest
