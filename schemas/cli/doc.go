// Package cli is what all verbs of the cocoon program share: how results are printed ([Output]), what the exit codes
// mean ([ExitCode]), how configuration is read ([Load]) and how a verb says that it was used wrongly ([Usagef]).
//
// The verbs themselves live beside the folder whose nouns they are about: streams/cli, enclave/cli, producers/cli,
// consumers/cli and settlement/cli. Each exports functions that return a *cobra.Command; package main hangs them into
// one tree and calls [ExitCode] at the end.
//
// Conventions that hold for every verb:
//
//   - Data goes to standard output, progress and messages to standard error.
//   - -o table (the default), json or jsonl; --json is short for -o json. The JSON is the contract, the table a view.
//   - Configuration comes from flag, then environment (COCOON_, nested by "__"), then file, then default. An unknown
//     key anywhere is an error that names it.
//   - A verb returns an error and never exits by itself.
package cli
