// Package migrations holds the ledger's schema as goose migrations, one folder per database.
//
// Migrations only go forward: there are no down scripts, because a book cannot be un-written. A file that was ever
// released is never edited; a change is a new file in both folders with the next number, and both must leave the same
// tables and columns behind, because the same Go code works on either. package settlement applies them when it opens a
// ledger and refuses a ledger with migrations it does not know.
//
// Both schemas refuse UPDATE and DELETE on what was booked (entries, postings, receipts, rejections, deposits,
// catalogues, and the signed part of payout batches) by triggers, so that not even a program with the password can
// quietly rewrite history.
package migrations

import "embed"

// SQLite and Postgres hold the files NNNNN_name.sql in folders "sqlite" and "postgres".
var (
	//go:embed sqlite/*.sql
	SQLite embed.FS
	//go:embed postgres/*.sql
	Postgres embed.FS
)
