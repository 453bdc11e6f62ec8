// Package cli holds the verbs about money: account, payouts, settle, reconcile, and the benchmark of settlement.
//
// Each exported function returns a *cobra.Command that package main hangs into its tree: [Account] opens and funds
// tenants, [Payouts] looks at and steers payouts, [Settle] runs settlement as a service, [Reconcile] compares the books
// with chain and streams. [Bench] measures. [Money] shows the books to the dashboard.
//
// All verbs work on a ledger named by --ledger: the path of a SQLite file or a postgres:// address. Without the flag
// it comes from COCOON_SETTLE__LEDGER or the section "settle" of the configuration file, and last it is the ledger of
// `cocoon up` in the user's data folder. Looking at a ledger is safe while a service works on it, and so is every other
// verb: writers take turns.
//
// The package only wires: what may be done, and what it means, is decided in package settlement.
package cli
