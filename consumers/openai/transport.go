package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// client speaks HTTP with one server.
type client struct {
	base string
	key  string
	http http.Client
}

// newClient prepares connections: to a unix socket, or to a host.
func newClient(o *Options) *client {
	c := &client{base: strings.TrimSuffix(o.URL, "/"), key: o.Key, http: http.Client{Transport: o.Transport}}
	path, unix := strings.CutPrefix(o.URL, "unix:")
	if unix {
		c.base = "http://engine" // a name that no resolver sees
	}
	if o.Transport == nil {
		const dial, idle = 5 * time.Second, 90 * time.Second
		d := &net.Dialer{Timeout: dial}
		t := &http.Transport{MaxIdleConnsPerHost: o.Slots, IdleConnTimeout: idle, DialContext: d.DialContext}
		if unix {
			t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) }
		}
		c.http.Transport = t
	}
	return c
}

// do sends a request and returns an answer of status 200 to 299; others are errors.
func (c *client) do(ctx context.Context, method, path, content string, body []byte, header http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, &schemas.Error{Kind: schemas.KindInvalid, Field: "url", Message: "is no address of a server", Err: err}
	}
	for k, v := range header {
		r.Header[k] = v
	}
	if body != nil {
		r.Header.Set("Content-Type", content)
	}
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, broken(ctx, err, schemas.KindUnavailable, "the engine's server cannot be reached")
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // as much as there is
		return nil, refusal(resp.StatusCode, resp.Header.Get("Retry-After"), text)
	}
	return resp, nil
}

// get asks for a small JSON answer.
func (c *client) get(ctx context.Context, path string, v any) error {
	resp, err := c.do(ctx, http.MethodGet, path, "", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(resp.Body, v)
}

// post asks with a JSON body.
func (c *client) post(ctx context.Context, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return &schemas.Error{Kind: schemas.KindInternal, Message: "a request cannot be written", Err: err}
	}
	resp, err := c.do(ctx, http.MethodPost, path, "application/json", b, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(resp.Body, out)
}

func decode(r io.Reader, v any) error {
	if err := json.NewDecoder(io.LimitReader(r, maxEvent)).Decode(v); err != nil {
		return &schemas.Error{Kind: schemas.KindEngine, Message: "the engine's server answered with something else", Err: err}
	}
	return nil
}

// errStalled is the cause when a server keeps silent for too long.
var errStalled = errors.New("the server keeps silent")

// broken is the error of a connection that failed: the caller's doing, too late, or the server's.
func broken(ctx context.Context, err error, kind schemas.Kind, message string) error {
	switch cause := context.Cause(ctx); {
	case schemas.KindOf(cause) != schemas.KindUnknown:
		return cause
	case errors.Is(cause, errStalled):
		return &schemas.Error{Kind: schemas.KindEngine, Message: "the engine's server keeps silent", Err: err}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &schemas.Error{Kind: schemas.KindExpired, Message: "the deadline passed before the answer was complete", Err: err}
	case ctx.Err() != nil:
		return &schemas.Error{Kind: schemas.KindCancelled, Message: "the caller cancelled the request", Err: err}
	}
	return &schemas.Error{Kind: kind, Message: message, Err: err}
}

// Refused is what a server said when it refused a request. Its text may quote the prompt.
type Refused struct {
	Status int
	Body   []byte
}

// Error implements error; it does not repeat the text.
func (r *Refused) Error() string { return "the server answered " + strconv.Itoa(r.Status) }

// problem is OpenAI's error object, and the flat one of some servers.
type problem struct {
	Error *problemBody `json:"error"`
	problemBody
}

type problemBody struct {
	Message string          `json:"message"`
	Type    string          `json:"type"`
	Param   string          `json:"param"`
	Code    json.RawMessage `json:"code"`
}

// refusal turns an HTTP error into ours.
func refusal(status int, retry string, text []byte) error {
	e := &schemas.Error{Err: &Refused{status, text}}
	e.Kind, e.Message = kindOfStatus(status)
	if s, err := strconv.Atoi(retry); err == nil && s > 0 && s < 3600 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	refine(e, text)
	return e
}

// kindOfStatus is what a status means when nothing else is said.
func kindOfStatus(status int) (schemas.Kind, string) {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return schemas.KindInvalid, "the model server refuses the request"
	case http.StatusRequestEntityTooLarge:
		return schemas.KindTooLarge, "the request is too long for the model server"
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return schemas.KindUnsupported, "the model server does not offer this"
	case http.StatusTooManyRequests:
		return schemas.KindBusy, "the model server is full"
	case http.StatusServiceUnavailable, http.StatusUnauthorized, http.StatusForbidden:
		return schemas.KindUnavailable, "the model server does not serve us"
	case http.StatusGatewayTimeout:
		return schemas.KindEngine, "the model server took too long"
	}
	return schemas.KindEngine, "the model server failed"
}

// refine takes field and kind from an error object. The code of our own server is a kind; others say "context length" in
// words only.
func refine(e *schemas.Error, text []byte) {
	var p problem
	if json.Unmarshal(text, &p) != nil {
		p.Message = string(text) // cut off in the middle of a prompt that it quotes, or no JSON at all
	}
	if p.Error != nil {
		p.problemBody = *p.Error
	}
	const maxField = 64
	e.Field = p.Param[:min(len(p.Param), maxField)]
	var code string
	if json.Unmarshal(p.Code, &code) == nil {
		if k, err := schemas.ParseKind(code); err == nil && k != schemas.KindUnknown {
			const maxMessage = 256
			e.Kind, e.Message = k, p.Message[:min(len(p.Message), maxMessage)] // our own server, whose messages have no text
			return
		}
	}
	switch {
	case code == "model_not_found":
		e.Kind, e.Message = schemas.KindUnknownModel, "the model server does not know the model"
	case e.Kind == schemas.KindInvalid && (code == "context_length_exceeded" || strings.Contains(p.Message, "context length") ||
		p.Type == "exceed_context_size_error"):
		e.Kind, e.Message = schemas.KindTooLarge, "the request does not fit the model's context"
		if e.Field == "" {
			e.Field = "messages"
		}
	}
}
