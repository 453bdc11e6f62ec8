// Package cli holds the verbs about streams: `cocoon topology`, `cocoon consumers`, `cocoon dlq` and `cocoon control`. It
// is wiring only; what the verbs do lies in package streams and its folders.
//
// Every noun is a function that takes how to reach the network ([Connect]) and returns a *cobra.Command; package main
// hangs them into its tree:
//
//   - [Topology]: what the streams should be (apply, diff, export) and the server configurations of the permissions (conf);
//   - [Consumers]: the queues of the models: what waits, pause, resume, and how many workers a model should have (scale);
//   - [DLQ]: the dead letters: look, replay, purge, always by selector and with a count first;
//   - [Control]: the control service itself.
//
// [Judge] is here too, because it joins two folders: it checks the signatures of outcomes with keys that brokers have
// attested, for the reputation that control keeps.
//
// Data goes to standard output in the form that -o asks for; questions and progress go to standard error. What cannot be
// undone (purge, an apply that changes something) is shown first and done only with --yes or after a "y" at a terminal.
package cli
