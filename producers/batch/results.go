package batch

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// Codes of lines that have no answer because of the batch, not of the line.
const (
	codeCancelled = "batch_cancelled"
	codeExpired   = "batch_expired"
	codeBudget    = "budget_exceeded"
)

// mayPass reports whether a line that failed with a code may do better another time.
func mayPass(code string) bool {
	switch code {
	case codeCancelled, codeExpired, codeBudget:
		return true
	}
	kind, err := schemas.ParseKind(code)
	if err != nil {
		return false // a refused request: its code is OpenAI's
	}
	switch kind {
	case schemas.KindInvalid, schemas.KindTooLarge, schemas.KindUnknownModel, schemas.KindUnsupported, schemas.KindPrice, schemas.KindDenied:
		return false
	}
	return true
}

// responseForm is "response" of a result line.
type responseForm struct {
	StatusCode int             `json:"status_code"`
	RequestID  string          `json:"request_id"`
	Body       json.RawMessage `json:"body"`
}

// errorForm is "error" of a result line that has no response.
type errorForm struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// resultForm is a result line. The order of the fields is OpenAI's and vLLM's.
type resultForm struct {
	ID       string        `json:"id"`
	CustomID string        `json:"custom_id"`
	Response *responseForm `json:"response"`
	Error    any           `json:"error"`
}

// result spells the result line of a line, with its newline, and says under which code it failed, if it did.
func result(f Format, p publishedLine, s producers.Settled) (text []byte, code string) {
	form := resultForm{ID: "batch_req_" + string(p.Job), CustomID: p.CustomID}
	request := "req_" + string(p.Job)
	if f == VLLM {
		form.ID, request = "vllm-"+string(p.Job), "vllm-batch-"+string(p.Job)
	}
	switch {
	case s.Err == nil:
		form.Response = &responseForm{s.Answer.HTTP, request, body(s.Answer)}
		if s.Answer.HTTP >= 400 {
			code = fmt.Sprintf("http_%d", s.Answer.HTTP)
		}
	case refused(s.Err):
		refusal := openai.RefusalOf(s.Err)
		form.Response = &responseForm{refusal.Status, request, refusal.Body()}
		if f == VLLM {
			form.Response.Body, form.Error = nil, json.RawMessage(refusal.Body())
		}
		code = *refusal.Error.Code
	default:
		code = codeOf(s.Err)
		form.Error = errorForm{code, s.Err.Error()}
		if s.Answer != nil && len(s.Answer.Body) > 0 { // what a cancelled line had produced is paid and kept
			form.Response = &responseForm{s.Answer.HTTP, request, body(s.Answer)}
		}
	}
	b, err := marshal(form)
	if err != nil {
		panic("batch: a result line always marshals: " + err.Error())
	}
	return b, code
}

// marshal is json.Marshal with a newline and without the escaping of HTML, which no peer's files have.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// refused reports whether a request itself was refused: such a line has a response with a status of 4xx.
func refused(err error) bool {
	switch schemas.KindOf(err) {
	case schemas.KindInvalid, schemas.KindTooLarge, schemas.KindUnsupported, schemas.KindUnknownModel, schemas.KindPrice:
		return true
	}
	return false
}

// codeOf is the code of a line that has no response.
func codeOf(err error) string {
	switch kind := schemas.KindOf(err); kind {
	case schemas.KindCancelled:
		return codeCancelled
	case schemas.KindExpired:
		return codeExpired
	case schemas.KindUnknown:
		var budget *budgetError
		if errors.As(err, &budget) {
			return codeBudget
		}
		return schemas.KindInternal.String()
	default:
		return kind.String()
	}
}

// body is an answer's body, with its cost, as one JSON value on one line. What is not JSON (speech) becomes a base64
// string.
func body(a *producers.Answer) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, a.Priced()) == nil {
		return b.Bytes()
	}
	encoded, err := json.Marshal(a.Body)
	if err != nil {
		panic("batch: bytes always marshal: " + err.Error())
	}
	return encoded
}

// budgetError says that a line was not submitted because of the batch's budget.
type budgetError struct{ left, needed schemas.NanoTON }

// Error says what was missing.
func (e *budgetError) Error() string {
	return fmt.Sprintf("the batch's budget has %s left and the line may cost %s", e.left, e.needed)
}

// Order is the order of results.
type Order int

// The orders.
const (
	// AsCompleted is the order in which answers came.
	AsCompleted Order = iota
	// InputOrder is the order of the input file.
	InputOrder
)

// Which selects results.
type Which int

// The selections: OpenAI's output file has the succeeded lines and its error file the failed ones.
const (
	All Which = iota
	Succeeded
	FailedOnly
)

// WriteResults writes the result lines there are by now and says how many.
func (b *Batch) WriteResults(w io.Writer, order Order, which Which) (int, error) {
	refs := b.refs(order, which)
	f, err := os.Open(filepath.Join(b.dir, resultsName))
	if errors.Is(err, os.ErrNotExist) && len(refs) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read results: %w", err)
	}
	defer f.Close()
	out := bufio.NewWriterSize(w, 256<<10)
	for _, r := range refs {
		if _, err := io.Copy(out, io.NewSectionReader(f, r.offset, int64(r.length))); err != nil {
			return 0, fmt.Errorf("write results: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return 0, fmt.Errorf("write results: %w", err)
	}
	return len(refs), nil
}

// resultAt is where a result line lies.
type resultAt struct {
	number int
	offset int64
	length int
}

// refs lists the result lines that count.
func (b *Batch) refs(order Order, which Which) (refs []resultAt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.book.order {
		l := b.book.lines[r.line]
		switch {
		case l.state != lineDone || l.offset != r.offset:
		case which == Succeeded && l.code != "", which == FailedOnly && l.code == "":
		default:
			refs = append(refs, resultAt{r.line, l.offset, l.length})
		}
	}
	if order == InputOrder {
		slices.SortFunc(refs, func(a, b resultAt) int { return cmp.Compare(a.number, b.number) })
	}
	return refs
}
