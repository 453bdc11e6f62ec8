package slice

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Defaults of Options.
const (
	DefaultSize     = 6000
	DefaultParallel = 16
	// maxRounds bounds the reduce rounds: each at least halves the answers.
	maxRounds = 20
)

// Client is what slicing needs of a [producers.Client].
type Client interface {
	Do(ctx context.Context, j producers.Job) (*producers.Answer, error)
}

var _ Client = (*producers.Client)(nil)

// Options say what to do with a document. Model and Map are required.
type Options struct {
	// Model answers.
	Model string
	// Map is the instruction for a piece: "Summarise the text." The piece is the user's message, Map the system's.
	Map string
	// Reduce is the instruction for putting answers together; empty leaves out the reduce step, and the answer of Run is
	// the answers of all pieces, in order, with an empty line between.
	Reduce string
	// Size is the largest piece in bytes and Overlap how much of one piece the next repeats. Default 6,000 and 0. A
	// reduce request has at most Size bytes of answers, too.
	Size, Overlap int
	// MaxTokens bounds each answer; 0 leaves it to the model. A reduction ends only when answers are shorter than what
	// they are made of: set it when Reduce is set.
	MaxTokens int
	// Parallel is how many pieces are answered at a time. Default 16.
	Parallel int
	// Class is queue and price of the jobs; empty means the client's.
	Class schemas.Class
	// Key names the run: with the same key, model, prompts and document it goes on where it stopped. Empty: a run that
	// is started again begins anew.
	Key string
	// OnPiece, when not nil, is told of every job that was answered, never two at a time: the step ("map" or "reduce")
	// and how many are done of how many.
	OnPiece func(step string, done, total int)
}

// withDefaults fills zero values and refuses what cannot work.
func (o Options) withDefaults() (Options, error) {
	if o.Model == "" {
		return o, schemas.FieldError("Model", "is required")
	}
	if o.Map == "" {
		return o, schemas.FieldError("Map", "is required")
	}
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	return o, nil
}

// Result is the answer to a document.
type Result struct {
	// Text is the answer.
	Text string
	// Pieces counts the pieces, Jobs the jobs of all steps: with a key, equal pieces are one job.
	Pieces, Jobs int
	// Usage and Cost sum what the receipts of these jobs say.
	Usage schemas.Usage
	Cost  schemas.NanoTON

	counted map[schemas.JobID]bool
}

// count adds an answer, each job once.
func (r *Result) count(a *producers.Answer) {
	if r.counted[a.Job] {
		return
	}
	r.counted[a.Job] = true
	r.Jobs++
	r.Usage, r.Cost = r.Usage.Add(a.Usage), r.Cost+a.Charge.Total
}

// Run cuts a document, maps the prompt over its pieces and reduces the answers. The first piece that has no answer ends
// it; with a key, the pieces that were answered are kept for the next run.
func Run(ctx context.Context, c Client, document string, o Options) (*Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	pieces, err := Cut(document, o.Size, o.Overlap)
	if err != nil {
		return nil, err
	}
	r := &Result{Pieces: len(pieces), counted: map[schemas.JobID]bool{}}
	answers, err := r.step(ctx, c, &o, "map", o.Map, pieces)
	if err != nil || o.Reduce == "" {
		r.Text = strings.Join(answers, "\n\n")
		return r, err
	}
	for round := 0; len(answers) > 1; round++ {
		groups := group(answers, o.Size)
		if round == maxRounds || len(groups) == len(answers) {
			return r, &schemas.Error{Kind: schemas.KindTooLarge, Field: "Size", Message: "two answers do not fit one request: raise Size or lower MaxTokens"}
		}
		if answers, err = r.step(ctx, c, &o, "reduce/"+strconv.Itoa(round), o.Reduce, groups); err != nil {
			return r, err
		}
	}
	r.Text = strings.Join(answers, "")
	return r, nil
}

// group puts answers together, as many as fit size, in order.
func group(answers []string, size int) (groups []string) {
	const between = "\n\n---\n\n"
	current := ""
	for i, a := range answers {
		if i > 0 && len(current)+len(between)+len(a) <= size {
			current += between + a
			continue
		}
		if i > 0 {
			groups = append(groups, current)
		}
		current = a
	}
	return append(groups, current)
}

// step answers one instruction over many texts and returns the answers in order.
func (r *Result) step(ctx context.Context, c Client, o *Options, name, instruction string, texts []string) ([]string, error) {
	answers := make([]*producers.Answer, len(texts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Parallel)
	done := make(chan int, len(texts))
	for i, text := range texts {
		group.Go(func() error {
			a, err := c.Do(ctx, o.job(name, instruction, text))
			if err != nil {
				return fmt.Errorf("%s, piece %d: %w", name, i+1, err)
			}
			answers[i] = a
			done <- i
			return nil
		})
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		n := 0
		for range done {
			if n++; o.OnPiece != nil {
				o.OnPiece(strings.SplitN(name, "/", 2)[0], n, len(texts))
			}
		}
	}()
	err := group.Wait()
	close(done)
	<-finished
	out := make([]string, len(texts))
	for i, a := range answers {
		if a != nil {
			out[i] = a.Text()
			r.count(a)
		}
	}
	return out, err
}

// job is one piece of work.
func (o *Options) job(step, instruction, text string) producers.Job {
	j := producers.Job{Body: o.body(instruction, text), Class: o.Class}
	if o.Key != "" {
		// The body is part of the job's identity by itself; the key only has to tell runs apart.
		name := schemas.HashFields("cocoon/slice/v1", []byte(o.Key), []byte(step), j.Body)
		j.IdempotencyKey = "slice/" + name.String()
	}
	return j
}

// message is a chat message.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// body is the chat request of a piece.
func (o *Options) body(instruction, text string) []byte {
	form := struct {
		Model     string    `json:"model"`
		Messages  []message `json:"messages"`
		MaxTokens int       `json:"max_tokens,omitempty"`
	}{o.Model, []message{{"system", instruction}, {"user", text}}, o.MaxTokens}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(form); err != nil {
		panic("slice: a request of strings always marshals: " + err.Error())
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// Lines writes the map step of a document as batch lines, one for each piece, with the custom_ids prefix-00001 and so on,
// and says how many there are.
func Lines(w io.Writer, document, prefix string, o Options) (int, error) {
	o, err := o.withDefaults()
	if err != nil {
		return 0, err
	}
	pieces, err := Cut(document, o.Size, o.Overlap)
	if err != nil {
		return 0, err
	}
	for i, piece := range pieces {
		line, err := json.Marshal(struct {
			CustomID string          `json:"custom_id"`
			Method   string          `json:"method"`
			URL      string          `json:"url"`
			Body     json.RawMessage `json:"body"`
		}{fmt.Sprintf("%s-%05d", prefix, i+1), "POST", "/v1/chat/completions", o.body(o.Map, piece)})
		if err != nil {
			return 0, fmt.Errorf("encode line: %w", err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return 0, fmt.Errorf("write line: %w", err)
		}
	}
	return len(pieces), nil
}
