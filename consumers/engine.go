package consumers

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Engine runs one model. The embedded engine (consumers/ggml) and every OpenAI-compatible server (consumers/openai)
// look the same from here, and consumers/enginetest holds all of them to this contract.
//
// All methods may be called from several goroutines. Every error has a [schemas.Kind], so that a caller can tell "try
// later" from "never":
//
//   - KindBusy: full now, nothing was done; try later (Error.RetryAfter may say when).
//   - KindUnavailable: draining, starting, closed or not reachable; try another engine or later.
//   - KindEngine: broke while it worked (a crash, a stream that died); run the request again.
//   - KindExpired: the request's deadline passed. KindCancelled: the caller cancelled.
//   - KindInvalid: the request is wrong, KindTooLarge: it does not fit the model's context or a limit,
//     KindUnsupported: right in itself, but not offered here, KindUnknownModel. Error.Field says which part of the body
//     is at fault, as in "messages[2].content". None of these helps to retry.
type Engine interface {
	// Info describes the model and the engine. It may ask a remote server; the answer changes only when the engine
	// was restarted with other settings.
	Info(ctx context.Context) (Info, error)

	// Submit checks the request, admits it and returns its stream. A request that can never run is refused here, before
	// any work, with the field at fault; KindBusy means that the engine is full now and nothing was done.
	// Cancelling ctx ends the request at the engine's next step, as Stream.Close does; ctx must live as long as the
	// stream does.
	Submit(ctx context.Context, r *Request) (Stream, error)

	// Capacity is the last known load. It never blocks and costs next to nothing.
	Capacity() Capacity

	// Watch returns a channel that receives a value after the capacity may have grown (a request ended, the engine came
	// back). It holds at most one value: a wake-up is never lost, several may be merged into one. There is one watcher
	// per engine; the channel is never closed.
	Watch() <-chan struct{}

	// Count is the number of prompt tokens of a request. exact is false when it is an estimate.
	Count(ctx context.Context, r *Request) (n int, exact bool, err error)

	// Drain stops admission, waits until every running request has ended and wipes what they left in memory. Submit
	// answers KindUnavailable from the first moment on. When ctx ends first, Drain returns its error and the requests
	// still run; Close ends them.
	Drain(ctx context.Context) error

	// Close ends all requests and frees the engine. A second Close does nothing.
	Close() error
}

// Stream is the answer to one request. A stream may also have Usage() (u schemas.Usage, exact bool): what the request has
// cost so far. It may be called at any time from any goroutine, and after Next has failed, so that a request that was cancelled
// has its price and one that does not stream shows that it moves.
type Stream interface {
	// Next blocks for the next event. The last event carries Done; after it Next returns io.EOF. Any other error ends
	// the stream without a result: the request failed or was cancelled, and may be run again when
	// schemas.Retriable says so. One goroutine calls Next.
	Next() (Event, error)

	// Close cancels the request if it still runs and frees the stream. It may be called at any time, from any
	// goroutine, more than once, and makes a waiting Next return.
	Close() error
}

// Request is one call of an OpenAI endpoint, as the tenant wrote it.
type Request struct {
	// ID names the request in logs and in the engine's traces; a worker uses the job id.
	ID string
	// Tenant is the scope of shared state: a prefix of the prompt is reused only between requests of one tenant, and
	// fairness is among tenants. Empty means a scope of its own: nothing is shared with anyone.
	Tenant schemas.TenantID
	// Priority orders admission: higher goes first, 0 is normal. Running requests of lower priority give way when
	// memory runs out.
	Priority int
	// Deadline, if set, ends the request with KindExpired.
	Deadline time.Time
	// URL is the endpoint's path, one of the Path constants.
	URL string
	// ContentType of Body; empty means application/json.
	ContentType string
	// Body is the request body. The engine does not change it and reads it only before Submit returns. Whether "model"
	// in it names this engine's model is the caller's business (it chose the engine); answers repeat that name.
	Body []byte
}

// Paths of the OpenAI endpoints that an engine may offer; see [Info.Endpoints].
const (
	PathChat           = "/v1/chat/completions"
	PathCompletions    = "/v1/completions"
	PathEmbeddings     = "/v1/embeddings"
	PathResponses      = "/v1/responses"
	PathSpeech         = "/v1/audio/speech"
	PathTranscriptions = "/v1/audio/transcriptions"
)

// Event is one step of an answer: a Delta while it grows (only when the request's body asked to stream), Done at its end.
type Event struct {
	// Delta is the JSON object of one server-sent event (for chat: a chat.completion.chunk), without "data: ".
	Delta json.RawMessage
	// Done is set in the last event only; Delta is empty then.
	Done *Done
}

// Done is how a request ended.
type Done struct {
	// Status is the HTTP status of the answer, 200 to 299; refusals are errors instead.
	Status int
	// ContentType of Body: application/json unless the endpoint answers in another form (audio).
	ContentType string
	// Body is the whole response. After a stream it is the object that the same call without streaming would have
	// given.
	Body []byte
	// FinishReason of the first choice: stop, length, tool_calls, content_filter; empty where the endpoint has none.
	FinishReason string
	// Usage is what the request cost. Its counts are disjoint, as receipts want them; the usage object inside Body has
	// OpenAI's overlapping ones.
	Usage schemas.Usage
	// UsageExact says that Usage was counted by the tokenizer that the model ran with, not estimated.
	UsageExact bool
	// Queue is the wait for admission, TTFT the time to the first token, Total the whole time; all from Submit.
	Queue, TTFT, Total time.Duration
	// Fingerprint names engine, version, weights and instruction set: what equal output may be expected from.
	Fingerprint string
}

// Info describes an engine.
type Info struct {
	// Model is the id under which the engine serves its model.
	Model string
	// Architecture of the model (llama, qwen3, …); empty when the engine does not tell.
	Architecture string
	// Flavour of the engine: ggml, cocoon, vllm, sglang, llama-server, tgi or openai (anything else).
	Flavour string
	// Context is the most tokens of prompt and answer together; 0 when unknown.
	Context int
	// Slots is the most requests that run at the same time; 0 when unknown.
	Slots int
	// Endpoints are the paths that Submit takes.
	Endpoints []string
	// ExactCounts says that Count and Usage come from the model's own tokenizer.
	ExactCounts bool
	// Logprobs says that log probabilities can be asked for.
	Logprobs bool
	// Fingerprint as in Done.
	Fingerprint string
	// Build says how native code was compiled or chosen, for people: instruction set, accelerator.
	Build string
}

// Unknown marks a number in [Capacity] that the engine does not tell. It is never to be read as zero.
const Unknown = -1

// Capacity is an engine's load.
type Capacity struct {
	// Running and Waiting count requests inside the engine; Slots is the most that run together.
	Running, Waiting, Slots int
	// KVUsed and KVTotal are tokens of the key-value memory, reserved and in all.
	KVUsed, KVTotal int64
	// Free is the number of further requests the engine advises to give it now; never Unknown.
	Free int
	// FreeTokens is the number of tokens (prompt and answer) that those may have together.
	FreeTokens int64
	// Draining: no new requests. Healthy: the engine answers.
	Draining, Healthy bool
	// At is when this was true.
	At time.Time
}
