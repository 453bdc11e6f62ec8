package openai

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Headers that `cocoon engine` reads on a trusted connection.
const (
	headerRequest  = "X-Request-Id"
	headerTenant   = "Cocoon-Tenant"
	headerPriority = "Cocoon-Priority"
	headerDeadline = "Cocoon-Deadline"
)

// form is how an endpoint answers.
type form uint8

const (
	chunked form = iota // chunks of choices: chat and completions
	whole               // one JSON object
	evented             // events with types, the last with the whole response: responses
	opaque              // whatever it is
)

// forms of the endpoints. Responses are evented only if the tenant streams.
var forms = map[string]form{
	consumers.PathChat: chunked, consumers.PathCompletions: chunked, consumers.PathEmbeddings: whole,
	consumers.PathResponses: whole, consumers.PathSpeech: opaque, consumers.PathTranscriptions: opaque,
}

// plan is a request as it goes to the server, and what the tenant wanted.
type plan struct {
	form    form
	path    string
	content string
	body    []byte
	model   string // as the tenant named it
	stream  bool   // the tenant wants events
	usage   bool   // and one with the usage
	prompt  map[string]any
}

// Submit implements consumers.Engine.
func (e *Engine) Submit(ctx context.Context, r *consumers.Request) (consumers.Stream, error) {
	at := time.Now()
	if err := e.enter(); err != nil {
		return nil, err
	}
	s, err := e.submit(ctx, r, at)
	if err != nil {
		e.leave(err)
		return nil, err
	}
	return s, nil
}

// submit sends the request and waits for the server to take it.
func (e *Engine) submit(ctx context.Context, r *consumers.Request, at time.Time) (*stream, error) {
	if !r.Deadline.IsZero() && !at.Before(r.Deadline) {
		return nil, &schemas.Error{Kind: schemas.KindExpired, Message: "the deadline has passed"}
	}
	info, err := e.Info(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(info.Endpoints, r.URL) {
		return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "url", Message: "the model server does not offer this endpoint"}
	}
	p, err := e.prepare(r)
	if err != nil {
		return nil, err
	}
	s := newStream(e, p, at)
	s.bind(ctx, r.Deadline)
	resp, err := e.client.do(s.ctx, http.MethodPost, p.path, p.content, p.body, e.headers(r))
	if err != nil {
		s.free()
		return nil, err
	}
	s.resp = resp
	s.in = newEvents(resp.Body, s.moved)
	return s, nil
}

// headers tell our own server who asks.
func (e *Engine) headers(r *consumers.Request) http.Header {
	h := http.Header{}
	if _, f := e.name(); f.name != "cocoon" {
		return h
	}
	if r.ID != "" {
		h.Set(headerRequest, r.ID)
	}
	if r.Tenant != "" {
		h.Set(headerTenant, string(r.Tenant))
	}
	if r.Priority != 0 {
		h.Set(headerPriority, strconv.Itoa(r.Priority))
	}
	if !r.Deadline.IsZero() {
		h.Set(headerDeadline, strconv.FormatInt(r.Deadline.UnixMilli(), 10))
	}
	return h
}

// prepare changes in a request what has to be changed.
func (e *Engine) prepare(r *consumers.Request) (*plan, error) {
	p := &plan{path: r.URL, content: r.ContentType, body: r.Body}
	var known bool
	if p.form, known = forms[r.URL]; !known {
		return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "url", Message: "is no endpoint of a model server"}
	}
	if p.content == "" {
		p.content = "application/json"
	}
	if !strings.HasPrefix(p.content, "application/json") {
		if p.form != opaque {
			return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "content-type", Message: "must be application/json"}
		}
		return p, nil // a form with a file: the server has to know the model under the tenant's name
	}
	if err := schemas.CheckJSON(r.Body); err != nil {
		return nil, err
	}
	var body map[string]any
	var raw map[string]json.RawMessage
	if json.Unmarshal(r.Body, &raw) != nil || raw == nil {
		return nil, &schemas.Error{Kind: schemas.KindInvalid, Message: "the request body must be a JSON object"}
	}
	body = make(map[string]any, len(raw)+4)
	for k, v := range raw {
		body[k] = v // as it was written
	}
	return p, e.rewrite(p, r, raw, body)
}

// rewrite sets the model's name, asks for a stream with usage, and keeps the tenant's prefixes apart.
func (e *Engine) rewrite(p *plan, r *consumers.Request, raw map[string]json.RawMessage, body map[string]any) error {
	if v := raw["model"]; v != nil && json.Unmarshal(v, &p.model) != nil {
		return schemas.FieldError("model", "must be a string")
	}
	if v := raw["stream"]; v != nil && json.Unmarshal(v, &p.stream) != nil {
		return schemas.FieldError("stream", "must be a boolean")
	}
	var f flavour
	body["model"], f = e.name()
	switch p.form {
	case chunked:
		options := map[string]json.RawMessage{}
		if v := raw["stream_options"]; v != nil && json.Unmarshal(v, &options) != nil {
			return schemas.FieldError("stream_options", "must be an object")
		}
		p.usage = p.stream && string(options["include_usage"]) == "true"
		ask := map[string]any{"include_usage": true}
		if f.name == "cocoon" || f.name == "vllm" {
			ask["continuous_usage_stats"] = true // a request that is cancelled has a price, too
		}
		body["stream"], body["stream_options"] = true, ask
		p.prompt = map[string]any{"model": body["model"]}
		for _, k := range []string{"messages", "prompt", "tools"} {
			if v, ok := raw[k]; ok {
				p.prompt[k] = v
			}
		}
		if f.isolate != nil {
			f.isolate(body, e.scope(r.Tenant))
		}
	case whole:
		if p.stream && p.path == consumers.PathResponses {
			p.form = evented
		}
	}
	var err error
	if p.body, err = json.Marshal(body); err != nil {
		return &schemas.Error{Kind: schemas.KindInternal, Message: "the request cannot be written", Err: err}
	}
	return nil
}
