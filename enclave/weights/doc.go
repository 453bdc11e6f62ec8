// Package weights keeps the weights of models secret and exact: it computes the root that names them, seals them into one
// package that may lie anywhere, and opens a package into private memory while verifying every byte.
//
// A model owner calls [Seal] with the brokers' verified weights key; the package can then be published to any place, and
// the model's id, which contains the root, to the catalogue. A worker reads the head of a package with [Read], asks a
// broker for its key (enclave.Session.WeightKey), and calls [Package.Extract]. Weights that are not secret are copied with
// [Copy], which verifies the same root. [Open] gets packages from the locations that a catalogue names.
//
// The root is over the sorted list of files: path, size and SHA-256 of each. Two folders with the same root have the same
// files.
//
// What the package refuses: a path that leaves the folder, a file that is named twice, more files or bytes than its limits,
// a frame that was changed, moved or left out, and files that do not hash to the root in the model's id. What was written
// before a refusal is removed.
//
// The host stores and serves ciphertext only. It learns the size of the package, the model's id and who asks for it.
package weights
