// Package ledgertest tests ledgers: one suite that every database must pass, a PostgreSQL server for it, and a small
// network that signs grants and receipts, for tests of whatever stands on a ledger.
//
// Start with [Run], the conformance suite. It takes a function that opens a ledger on the database under test and tries
// to break each promise of package settlement: entries add up to zero, jobs are booked once, what is written stays
// written, restarts change nothing.
//
// [Postgres] starts a private PostgreSQL from the server installed on the machine, on a Unix socket in a temporary
// folder, and skips the test with the reason when there is none; with COCOON_TEST_REQUIRE=all in the environment it
// fails instead.
//
// [NewNetwork] is a broker, workers and tenants with real keys whose outcomes land in a stream in memory, which is a
// settlement.Feed. Documents can be spoiled before or after they are signed. Nothing in here is faster or softer than
// the real thing: the signatures are made by package enclave and verified by the production intake.
package ledgertest
