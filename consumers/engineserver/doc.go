// Package engineserver serves engines over HTTP with OpenAI's interface. It is what `cocoon engine` runs: beside a worker
// as its child, so that native code has a process of its own, or alone as a small model server.
//
// [New] makes a [Server], [Server.Add] gives it an engine under a model's name, [Server.Run] serves a listener until its
// context ends and drains the engines then. Listeners come from [Listen], for a unix socket that only its owner may use or
// a TCP address.
//
// Endpoints:
//
//	POST /v1/chat/completions, /v1/completions, /v1/embeddings   as OpenAI has them, with server-sent events
//	POST /tokenize                                               {"count", "max_model_len"} of a request, nothing runs
//	GET  /v1/models, /v1/models/{name}                           with max_model_len and what else we know
//	GET  /health                                                 200, or 503 with the reason: starting, draining, stuck
//	GET  /metrics                                                Prometheus, named as vLLM names them, prefix "cocoon:"
//	POST /models/load, /models/unload                            {"model"}; only if Options.Load is set
//
// Errors have OpenAI's shape; "code" is the name of the schemas.Kind and "param" the field. 429 and 503 come with
// Retry-After. When the client goes away, its request is cancelled at the engine's next step. A stream that fails in the
// middle ends with an error event and without [DONE].
//
// On a trusted connection (the worker's socket) the headers of header.go say who the tenant is; from others they are
// ignored, because a tenant that could name another one could read its prefix cache by timing.
package engineserver
