// Package ggml is the embedded engine: it runs GGUF models inside the process, on the CPU or a GPU, with continuous
// batching.
//
// [Open] takes a model file, [OpenBytes] one in memory; the [Engine] is a consumers.Engine. A demonstration model that
// costs 3.7 MB is in package tiny, a writer of random models in package gguf.
//
// The parts, from the outside in: request.go and chat.go turn an OpenAI request into tokens, package batcher decides
// which tokens go into each forward pass, runner.go computes it with ollama's ggml packages, response.go makes OpenAI
// objects of the tokens. Only runner.go and tokenizer.go touch ollama's interface, which promises nothing: the version
// is pinned, and every call into it is guarded.
//
// What the engine refuses: model files that package gguf does not admit; requests that are malformed, too long, or ask
// for what it does not have (tools, JSON schemas, images), always before any work and with the field at fault. Text of a tenant that contains a control token of the model is refused as well: it would be read as the
// beginning of another role. Grammar-constrained output is not offered: ollama's lives in a package that does not build as a
// dependency (headers of its C++ are missing from the module), no other Go library has it, and an own one would be a promise
// we could not keep for every schema.
//
// Vectors (/v1/embeddings) are given by models that say so in the file: qwen3 that pools the last token, as the
// Qwen3-Embedding family does. Such a model serves nothing else.
//
// Keys and values of one tenant are never read for another, and are overwritten once the tenant has nothing left in
// memory. Other traces stay until they are overwritten by later work: activations in the compute buffers, tokens in the
// Go heap. Run the engine as a process of its own, as the worker does by default, when that or a crash in native code
// should not concern the process that holds keys.
//
// The same Fingerprint and seed give the same tokens for a request alone. In a batch, rounding may differ in the last
// bits, which can flip a choice between two tokens that are equally likely to five digits.
package ggml
