// Package cli has the verbs about workers: `cocoon worker`, which runs one, `cocoon workers`, which sees and steers them,
// and `cocoon bench pipeline` and `bench queue`, which measure them.
//
// [RunWorker] is the assembly behind `cocoon worker`, for programs that bring their own attester and engine: it follows
// policy and catalogue, gets the sealed weights of its models and their keys, opens the engines and runs a
// consumers.Worker until its context ends. [RunHost] runs as many of them per model as the backlog asks for.
//
// The commands are functions that take how to reach the network ([Connect]) and return a *cobra.Command; package main hangs
// them into its tree. They wire and print, and decide nothing.
package cli
