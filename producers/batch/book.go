package batch

import (
	"encoding/json"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// journalForm names the form of a batch's journal.
const journalForm = "cocoon batch journal v1"

// event is one record of the journal. One field is set, besides At.
type event struct {
	At time.Time `json:"at"`
	// Started is the environment of a run.
	Started schemas.Environment `json:"started,omitempty"`
	// Published are lines that the network has.
	Published []publishedLine `json:"published,omitempty"`
	// Done is a line that has ended; its result line is in results.jsonl.
	Done *doneLine `json:"done,omitempty"`
	// Again are lines that became new jobs because the key they were sealed to was lost; Retry are lines that the user
	// wants tried again, which also ends a cancellation and opens a new window of time.
	Again []int `json:"again,omitempty"`
	Retry []int `json:"retry,omitempty"`
	// Lost are lines to be sealed and sent again as the same jobs.
	Lost []int `json:"lost,omitempty"`
	// Cancel says that nothing more is to be submitted.
	Cancel bool `json:"cancel,omitempty"`
	// End says that every line has ended.
	End bool `json:"end,omitempty"`
}

// publishedLine is a line that the network has: enough to hear of its outcome and to write its result without the
// input.
type publishedLine struct {
	Line       int             `json:"line"`
	CustomID   string          `json:"custom_id"`
	Job        schemas.JobID   `json:"job"`
	Generation int             `json:"generation,omitempty"`
	Budget     schemas.NanoTON `json:"budget"`
	Tokens     int64           `json:"tokens"`
	Time       time.Time       `json:"time"`
	Expiry     time.Time       `json:"expiry"`
}

// doneLine is a line that has ended. Offset and Length are its result line.
type doneLine struct {
	Line     int             `json:"line"`
	CustomID string          `json:"custom_id"`
	Code     string          `json:"code,omitempty"` // why it failed
	Usage    schemas.Usage   `json:"usage"`
	Cost     schemas.NanoTON `json:"cost"`
	Offset   int64           `json:"offset"`
	Length   int             `json:"length"`
}

// lineState is where a line stands.
type lineState uint8

// The states of a line.
const (
	lineWaiting lineState = iota // to be submitted
	linePublished
	lineDone
)

// line is what is known of one line. Lines are told apart by their number in the file.
type line struct {
	state      lineState
	code       string // why it failed, empty when it did not
	generation int
	published  publishedLine
	offset     int64
	length     int
}

// book is the state of a batch: the journal played from its start.
type book struct {
	lines map[int]*line
	// order lists result lines in the order in which they came; one that a later one replaced is told by its offset.
	order []resultRef

	waiting, flying, done int // lines by state
	failed                int
	reasons               map[string]int
	usage                 schemas.Usage
	cost, reserved        schemas.NanoTON
	tokens                int64 // of lines in flight
	results               int64 // bytes of results.jsonl that count
	environment           schemas.Environment
	cancelled, ended      bool
	opened, finished      time.Time // the start of the present window of time; the end
}

// resultRef is a result line of a line.
type resultRef struct {
	line   int
	offset int64
}

// newBook is the state of a batch in which nothing has happened.
func newBook(m *manifest) *book {
	return &book{lines: map[int]*line{}, waiting: m.Lines, reasons: map[string]int{}, opened: m.Created}
}

// line returns the state of a line.
func (b *book) line(number int) *line {
	l := b.lines[number]
	if l == nil {
		l = &line{}
		b.lines[number] = l
	}
	return l
}

// replay applies a record of the journal.
func (b *book) replay(payload []byte) error {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: journalName, Message: "has a record that does not parse", Err: err}
	}
	b.apply(&e)
	return nil
}

// apply makes an event true.
func (b *book) apply(e *event) {
	switch {
	case e.Started != "":
		b.environment = e.Started
	case e.Published != nil:
		for _, p := range e.Published {
			b.publish(p)
		}
	case e.Done != nil:
		b.finish(e.Done)
	case e.Again != nil:
		for _, number := range e.Again {
			b.again(number)
		}
	case e.Retry != nil:
		for _, number := range e.Retry {
			b.again(number)
		}
		b.cancelled, b.opened = false, e.At
	case e.Lost != nil:
		for _, number := range e.Lost {
			if l := b.line(number); l.state == linePublished {
				b.again(number)
				b.lines[number].generation--
			}
		}
	case e.Cancel:
		b.cancelled = true
	case e.End:
		b.ended, b.finished = true, e.At
	}
}

// publish counts a line in.
func (b *book) publish(p publishedLine) {
	l := b.line(p.Line)
	if l.state == lineWaiting {
		b.waiting--
		b.flying++
		b.reserved += p.Budget
		b.tokens += p.Tokens
		l.state = linePublished
	}
	l.published, l.generation = p, p.Generation
}

// land counts a line out of flight.
func (b *book) land(l *line) {
	switch l.state {
	case lineWaiting:
		b.waiting--
	case linePublished:
		b.flying--
		b.reserved -= l.published.Budget
		b.tokens -= l.published.Tokens
	}
}

// finish counts a line done.
func (b *book) finish(d *doneLine) {
	l := b.line(d.Line)
	if l.state == lineDone {
		return
	}
	b.land(l)
	b.done++
	b.usage, b.cost = b.usage.Add(d.Usage), b.cost+d.Cost
	b.results = max(b.results, d.Offset+int64(d.Length))
	l.state, l.code, l.offset, l.length = lineDone, d.Code, d.Offset, d.Length
	l.published.CustomID, l.published.Line = d.CustomID, d.Line
	b.order = append(b.order, resultRef{d.Line, d.Offset})
	if l.code != "" {
		b.failed++
		b.reasons[d.Code]++
	}
}

// again makes a line wait to be submitted as a new job.
func (b *book) again(number int) {
	l := b.line(number)
	switch l.state {
	case lineWaiting:
		return
	case lineDone:
		b.done--
		if l.code != "" {
			b.failed--
			if b.reasons[l.code]--; b.reasons[l.code] == 0 {
				delete(b.reasons, l.code)
			}
		}
	case linePublished:
		b.land(l)
	}
	b.waiting++
	b.ended = false
	*l = line{generation: l.generation + 1}
}

// state is the batch's state in OpenAI's words.
func (b *book) state() State {
	switch {
	case b.cancelled && !b.ended:
		return Cancelling
	case b.cancelled:
		return Cancelled
	case !b.ended:
		return InProgress
	case b.reasons[codeExpired] > 0:
		return Expired
	}
	return Completed
}

// summary describes the batch.
func (b *book) summary(m *manifest) Summary {
	reasons := make(map[string]int, len(b.reasons))
	for code, n := range b.reasons {
		reasons[code] = n
	}
	return Summary{
		ID: m.Options.ID, State: b.state(), Total: m.Lines, Submitted: b.flying + b.done, Completed: b.done - b.failed, Failed: b.failed,
		Usage: b.usage, Cost: b.cost, Reserved: b.reserved, MaxCost: m.Options.MaxCost, Reasons: reasons, Endpoint: m.Endpoint, Model: m.Model,
		Environment: b.environment, Input: m.Options.Input, Metadata: m.Options.Metadata,
		Created: m.Created, Expires: b.opened.Add(m.Options.Timeout), Finished: b.finished,
	}
}
