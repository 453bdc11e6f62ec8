package producers

import (
	"time"

	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// Defaults of a job.
const (
	// DefaultTimeout is how long a job of class priority or standard is worth something.
	DefaultTimeout = 10 * time.Minute
	// DefaultBatchTimeout is the same for class batch: OpenAI's completion window.
	DefaultBatchTimeout = 24 * time.Hour
	// DefaultAttempts is how often the network may run a job that breaks.
	DefaultAttempts = 3
	// MaxIdempotencyKey bounds an idempotency key in bytes.
	MaxIdempotencyKey = 256
)

// Job is one request: a call of an OpenAI endpoint, and what it may cost. Only Body is required.
type Job struct {
	// URL is the endpoint's path; empty means /v1/chat/completions.
	URL string
	// ContentType of Body; empty means application/json.
	ContentType string
	// Body is the request as OpenAI's API wants it, at most 16 MiB. "model" in it is a model's name, name@revision or
	// full id. Cocoon's own fields (max_coefficient, timeout, enable_debug, request_guid) are read and removed.
	Body []byte
	// Call is the request as openai.ParseCall read it, for callers that have read it already; URL, ContentType and Body
	// are then ignored.
	Call *openai.Call `json:"-"`
	// Class is queue and price; empty takes service_tier from the body, then Options.Class.
	Class schemas.Class
	// MaxCost is the most that the job may cost; 0 means the worst case by the catalogue's prices. A job that could
	// cost more than MaxCost still runs: the network never charges above it.
	MaxCost schemas.NanoTON
	// MaxMultiplier is the highest price multiplier to pay; 0 takes max_coefficient from the body, then the class's.
	MaxMultiplier schemas.BasisPoints
	// Timeout is how long the answer is worth something; 0 takes timeout from the body, then DefaultTimeout
	// (DefaultBatchTimeout for class batch).
	Timeout time.Duration
	// Attempts is how often the network may run it, 1 to 10; 0 means DefaultAttempts.
	Attempts int
	// IdempotencyKey makes the same key with the same request the same job: a second submission gets the first one's
	// answer, another request under the key KindConflict. Empty means that every submission is a job of its own.
	IdempotencyKey string
	// Live has the worker send chunks while it runs, for [Handle.Events]; the body must ask for a stream too, or the
	// engine makes none. Client.Stream sets it.
	Live bool
	// Ephemeral keeps the job out of the record: nobody will ask for it after this process. Do and Stream set it for
	// jobs without an idempotency key.
	Ephemeral bool
}

// call parses the job's request and fills what the body decides.
func (j *Job) call() (*openai.Call, error) {
	if j.Call != nil {
		return j.Call, nil
	}
	url := j.URL
	if url == "" {
		url = openai.PathChat
	}
	return openai.ParseCall(url, j.ContentType, j.Body)
}
