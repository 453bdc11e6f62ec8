// Package gguf reads and writes the headers of GGUF model files and decides whether a file may be given to native code.
//
// [Parse] reads a header; [Header.Append] writes it again, byte for byte. [Check] turns a header into a [Model]: sizes,
// vocabulary, chat template. It refuses everything that the engine's native code would answer with an abort or an
// endless loop: tensors outside the file, shapes that do not match the metadata, counts that no memory could hold,
// duplicate names, empty control tokens. A model file comes from elsewhere, so it is input like any other.
//
// What may be loaded is what was checked: the architectures in arch.go, dense models without experts, with weights of
// the types in types.go. Anything else is KindUnsupported with the reason, and damage is KindCorrupt.
//
// Memory is bounded: a header may have 64 Ki keys and tensors, 4 Mi array elements and 256 MiB in all, and nothing is
// allocated before the file has shown that it is long enough for it.
//
// [Random] writes models with random weights: real computation without a download, for tests and benchmarks.
package gguf
