// Package producerstest is a whole small network for the tests of producers: a private nats-server, an attested broker on
// simulated hardware whose keys, policy, catalogue and collateral lie in their buckets, funded tenants, and workers that
// pull, get grants, run an engine, send sealed chunks and publish outcomes.
//
// Start with [New]; [Network.Client] gives a client of a fresh tenant that verifies everything the production way, and
// [Network.Work] starts a worker with an [Engine]. [Echo] answers chat requests with what it was told, [Engine]
// functions of a test can fail, wait or stream.
//
// Everything is real but the hardware and the model. The worker here is a loop of its own, kept small on purpose: what
// is tested is the producer, against the wire and the seals.
//
// Everything ends with the test. Networks share nothing, so tests run in parallel.
package producerstest
