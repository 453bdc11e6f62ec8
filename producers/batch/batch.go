package batch

import (
	"context"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Client is what a batch needs of a [producers.Client].
type Client interface {
	Tenant() schemas.TenantID
	Environment() schemas.Environment
	Catalogue(ctx context.Context) (*schemas.Catalogue, error)
	Seal(ctx context.Context, jobs []producers.Job) ([]producers.Sealed, error)
	Publish(ctx context.Context, jobs []producers.Sealed) []streams.Published
	Collect() *producers.Collector
	Cancel(ctx context.Context, id schemas.JobID) (streams.CancelState, error)
}

var _ Client = (*producers.Client)(nil)

// Format is the form of the result lines.
type Format string

// The formats. Both have the same fields in the same order; the spelling of ids and of refused requests differs.
const (
	// OpenAI puts a refused request's error object into the response's body.
	OpenAI Format = "openai"
	// VLLM puts it into "error", as vLLM's run-batch does.
	VLLM Format = "vllm"
)

// Defaults of a batch.
const (
	// DefaultTimeout is OpenAI's completion window.
	DefaultTimeout = 24 * time.Hour
	// DefaultPatience is how long a run goes on without reaching the network.
	DefaultPatience = 10 * time.Minute
	// MaxMetadata and its parts are OpenAI's limits.
	MaxMetadata      = 16
	MaxMetadataKey   = 64
	MaxMetadataValue = 512
)

// Options say what is to be run and how. Input is required. They are kept with the batch.
type Options struct {
	// Input is the path of the file. It must stay as it is until every line is submitted: its hash is checked on resume.
	Input string `json:"input"`
	// ID names the batch: 1 to 48 characters [a-z0-9_-]; empty takes a random one.
	ID string `json:"id"`
	// Rules for the file.
	Rules Rules `json:"rules"`
	// Class is queue and price; empty means batch.
	Class schemas.Class `json:"class"`
	// Timeout is how long the answers are worth something. Default 24 h, at most 48 h.
	Timeout time.Duration `json:"timeout"`
	// MaxCost bounds what the whole batch may cost; 0 sets no bound.
	MaxCost schemas.NanoTON `json:"max_cost,omitempty"`
	// MaxTokens bounds the prompt and answer tokens, at their worst, of the lines in flight (an enqueued-token quota);
	// 0 sets no bound.
	MaxTokens int64 `json:"max_tokens,omitempty"`
	// Attempts is how often the network may run a line that breaks. Default 3.
	Attempts int `json:"attempts"`
	// Window is how many lines are in flight at most. Default: all.
	Window int `json:"window,omitempty"`
	// Format of the results. Default OpenAI.
	Format Format `json:"format"`
	// Metadata is kept with the batch and shown: at most 16 pairs, as OpenAI has it.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// RunOptions steer one run of a batch; nothing of them is kept.
type RunOptions struct {
	// Progress, when not nil, is called at most ten times a second and at the end, from one goroutine.
	Progress func(Progress)
	// OnResult, when not nil, is called with each result line (with its newline) when it is stored, never two at a time.
	OnResult func(line []byte)
	// Resubmit sends lines that have no outcome yet again, in case the network lost them: sealed anew, under the same
	// ids, so that none can be paid twice.
	Resubmit bool
	// Detach returns as soon as every line is with the network.
	Detach bool
	// Patience is how long the run goes on without reaching the network. Default 10 min.
	Patience time.Duration
	// Logger hears about trouble; nil discards.
	Logger *slog.Logger
}

// Progress is how far a batch is.
type Progress struct {
	Summary
	// Rate is finished lines per second over the last half minute and ETA when the rest will be done at that rate; zero
	// when unknown.
	Rate float64       `json:"rate"`
	ETA  time.Duration `json:"eta"`
}

// State says how far a batch is, in OpenAI's words.
type State string

// The states.
const (
	InProgress State = "in_progress"
	Completed  State = "completed"
	Cancelling State = "cancelling"
	Cancelled  State = "cancelled"
	Expired    State = "expired"
)

// Ended reports whether nothing more will happen.
func (s State) Ended() bool { return s == Completed || s == Cancelled || s == Expired }

// Summary is what came of a batch so far.
type Summary struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	// Total counts lines; Submitted those that are with the network or have ended, Completed those that were answered
	// with a status below 400, Failed those with another end.
	Total     int `json:"total"`
	Submitted int `json:"submitted"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
	// Usage and Cost sum what the receipts of ended lines say; Reserved is what the lines in flight can still cost.
	Usage    schemas.Usage   `json:"usage"`
	Cost     schemas.NanoTON `json:"cost"`
	Reserved schemas.NanoTON `json:"reserved"`
	// MaxCost bounds Cost and Reserved together; 0 when there is no bound.
	MaxCost schemas.NanoTON `json:"max_cost,omitempty"`
	// Reasons counts the failed lines by error code.
	Reasons map[string]int `json:"reasons,omitempty"`
	// Endpoint and Model are those of the first line.
	Endpoint string `json:"endpoint"`
	Model    string `json:"model"`
	// Environment says whether the hardware was real; empty before the first run.
	Environment schemas.Environment `json:"environment,omitempty"`
	// Input is the path of the input file and Metadata what came with it.
	Input    string            `json:"input"`
	Metadata map[string]string `json:"metadata,omitempty"`
	// Created is when the batch was made, Expires when its answers are worth nothing any more, Finished when it ended.
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	Finished time.Time `json:"finished,omitzero"`
}

// Run runs a batch in a folder to its end and returns what came of it. If the folder holds a batch already, that batch
// goes on; o is then used only to check that it is the same input. The error is non-nil when the run stopped before the
// end: ctx ended, the network stayed away, or the file is wrong (the error is then the report's first [Issue]). A batch
// with failed lines is no error: look at Summary.Failed.
func Run(ctx context.Context, c Client, dir string, o Options, r RunOptions) (Summary, error) {
	b, err := Open(dir)
	if schemas.KindOf(err) == schemas.KindNotFound {
		var report *Report
		if b, report, err = Create(ctx, dir, o); err == nil && !report.OK() {
			err = report.Err()
		}
	} else if err == nil {
		err = b.sameInput(o.Input)
	}
	if err != nil {
		if b != nil {
			b.Close()
		}
		return Summary{}, err
	}
	defer b.Close()
	return b.Run(ctx, c, r)
}
