package batch

import (
	"context"
	"io"
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
	JobID(key string) schemas.JobID
	Seal(ctx context.Context, jobs []producers.Job) ([]producers.Sealed, error)
	Publish(ctx context.Context, jobs []producers.Sealed) []streams.Published
	Collect() *producers.Collector
	Cancel(ctx context.Context, id schemas.JobID) (streams.CancelState, error)
}

var _ Client = (*producers.Client)(nil)

// Format is the form of the result lines.
type Format string

// The formats. Both have the same fields in the same order; ids and refused requests differ.
const (
	OpenAI Format = "openai"
	VLLM   Format = "vllm"
)

// Options say what is to be run and how. Input is required.
type Options struct {
	// Input is the path of the file. It must stay as it is until the batch is done: its hash is checked on resume.
	Input string
	// ID names the batch; empty takes a random one.
	ID string
	// Rules for the file.
	Rules Rules
	// Class is queue and price; empty means batch.
	Class schemas.Class
	// Timeout is how long the answers are worth something. Default 24 h.
	Timeout time.Duration
	// MaxCost bounds what the whole batch may cost; 0 sets no bound.
	MaxCost schemas.NanoTON
	// MaxTokens bounds the prompt and answer tokens of the lines in flight (an enqueued-token quota); 0 sets no bound.
	MaxTokens int64
	// Attempts is how often the network may run a line that breaks. Default 3.
	Attempts int
	// Window is how many lines are in flight at most. Default and most: all of them.
	Window int
	// Format of the results. Default OpenAI.
	Format Format
	// Metadata is kept with the batch and shown.
	Metadata map[string]string
}

// Progress is how far a batch is, sent as often as something changed and at most ten times a second.
type Progress struct {
	Summary
	// Rate is finished lines per second over the last half minute and ETA when the rest will be done at that rate; zero
	// when unknown.
	Rate float64       `json:"rate"`
	ETA  time.Duration `json:"eta"`
}

// RunOptions steer one run of a batch; nothing of them is kept.
type RunOptions struct {
	// Progress, when not nil, is called from one goroutine.
	Progress func(Progress)
	// OnResult, when not nil, is called with each result line as it is stored, from one goroutine.
	OnResult func(line []byte)
	// Detach returns as soon as every line is published.
	Detach bool
	// Logger hears about trouble; nil discards.
	Logger *slog.Logger
}

// Run runs a batch in a folder to its end and returns what came of it. If the folder holds a batch already, that batch
// goes on and o only has to name the same input. The error is non-nil when the run stopped before the end (ctx, a
// network that stays away, a file that is wrong: a *Report's Err); a batch with failed lines is no error.
func Run(ctx context.Context, c Client, dir string, o Options, r RunOptions) (Summary, error) {
	panic("unfinished")
}

// State says how far a batch is, in OpenAI's words.
type State string

// The states.
const (
	Validating State = "validating"
	InProgress State = "in_progress"
	Finalizing State = "finalizing"
	Completed  State = "completed"
	Cancelling State = "cancelling"
	Cancelled  State = "cancelled"
	Expired    State = "expired"
	Failed     State = "failed"
)

// Summary is what came of a batch so far.
type Summary struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	// Total lines; Submitted are with the network or done, Completed were answered with a status below 400, Failed
	// have another end.
	Total     int `json:"total"`
	Submitted int `json:"submitted"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
	// Usage and Cost sum what the receipts of finished lines say; Reserved is what the lines in flight can still cost.
	Usage    schemas.Usage   `json:"usage"`
	Cost     schemas.NanoTON `json:"cost"`
	Reserved schemas.NanoTON `json:"reserved"`
	// Reasons counts the failed lines by error code.
	Reasons map[string]int `json:"reasons,omitempty"`
	// Environment says whether the hardware was real.
	Environment schemas.Environment `json:"environment"`
	Created     time.Time           `json:"created"`
	Finished    time.Time           `json:"finished,omitzero"`
}

// Batch is a batch in its folder. It is safe for concurrent use by one process; a lock keeps a second one out.
type Batch struct{}

// Create checks the input and makes the folder of a new batch. Nothing is sealed yet.
func Create(ctx context.Context, dir string, o Options) (*Batch, *Report, error) { panic("unfinished") }

// Open opens the batch in a folder: KindNotFound when there is none, KindCorrupt when the journal is damaged.
func Open(dir string) (*Batch, error) { panic("unfinished") }

// Run submits what was not submitted, waits for what is open and returns at the end of the batch.
func (b *Batch) Run(ctx context.Context, c Client, r RunOptions) (Summary, error) {
	panic("unfinished")
}

// Summary is what came of it so far.
func (b *Batch) Summary() Summary { panic("unfinished") }

// Cancel ends the batch: waiting lines are cancelled, running ones stopped, finished ones kept.
func (b *Batch) Cancel(ctx context.Context, c Client) (Summary, error) { panic("unfinished") }

// Retry makes the lines that failed for a reason that can pass new jobs and says how many. The next Run submits them.
func (b *Batch) Retry() (int, error) { panic("unfinished") }

// Order is the order of results.
type Order int

// The orders.
const (
	// AsCompleted is the order in which answers came.
	AsCompleted Order = iota
	// InputOrder is the order of the input file.
	InputOrder
)

// WriteResults writes the result lines there are.
func (b *Batch) WriteResults(w io.Writer, order Order) error { panic("unfinished") }

// Close lets go of the folder.
func (b *Batch) Close() error { panic("unfinished") }

// List describes the batches in the folders below root, newest first.
func List(root string) ([]Summary, error) { panic("unfinished") }

// Cost is what a file may cost.
type Cost struct {
	// Lines is how many lines were priced.
	Lines int `json:"lines"`
	// Low takes 1 token of answer for each line and 6 bytes a prompt token, Expected half of what each line allows and
	// 4 bytes, Worst all of it and 1 byte. Worst is what a run can reserve at most.
	Low      schemas.NanoTON `json:"low"`
	Expected schemas.NanoTON `json:"expected"`
	Worst    schemas.NanoTON `json:"worst"`
	// Unbounded counts lines that set no limit on their answers: their worst case is the model's whole context.
	Unbounded int `json:"unbounded"`
}

// Estimate prices a file without sealing anything.
func Estimate(ctx context.Context, src io.Reader, o Options, catalogue *schemas.Catalogue) (Cost, *Report, error) {
	panic("unfinished")
}
