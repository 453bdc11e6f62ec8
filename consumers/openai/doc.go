// Package openai makes an engine of any server with OpenAI's HTTP interface: vLLM, SGLang, llama-server, TGI, our own
// `cocoon engine`, or anything else that keeps to it.
//
// [New] connects to a running server; [Supervise] starts one as a child process and keeps it running. Both give a
// consumers.Engine.
//
// Chats and completions are always streamed from the server, also when the tenant did not ask for it: a stream can be
// cancelled, its first token can be timed, and a server that dies in the middle is seen. The whole answer is put together
// from the chunks. An answer counts as complete only after every choice has its finish reason and the server has said
// [DONE]; everything else is KindEngine, which may be run again. Everything in the request that this package does not
// have to change reaches the server as it was: tools, response_format, images, logit_bias.
//
// Tokens are counted by the server: from "usage", which is always asked for, or with its /tokenize. If it offers neither,
// the request fails; a count is never guessed and never zero. Speech and transcriptions have no tokens: their result says
// UsageExact false.
//
// The capacity is the engine's own count of requests in flight against a limit that follows the server: it grows by one
// while nothing waits there and falls by a third when requests queue up, memory runs short, sequences are preempted, or
// the server answers 429 or 503. What the metrics are called is in flavour.go; a missing one is unknown, never zero.
//
// Prefix caches leak by timing what other tenants asked. vLLM gets a cache_salt per tenant, `cocoon engine` gets the
// tenant itself, llama-server is told not to reuse prompts. For SGLang and others run the server without a prefix cache.
//
// Text of a server's errors may quote the prompt. It stays in Error.Err as a [*Refused]; Error.Message never has it.
package openai
