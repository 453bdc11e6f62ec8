package engineserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// peek is what the server itself reads of a request body; the engine reads it strictly.
type peek struct {
	Model    string          `json:"model"`
	Stream   bool            `json:"stream"`
	Messages json.RawMessage `json:"messages"`
	Input    json.RawMessage `json:"input"`
}

// read takes the body and finds the engine.
func (s *Server) read(w http.ResponseWriter, h *http.Request) (p peek, e consumers.Engine, body []byte, err error) {
	body, err = io.ReadAll(http.MaxBytesReader(w, h.Body, s.o.MaxBody))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return p, nil, nil, &schemas.Error{Kind: schemas.KindTooLarge, Message: "the request body is too long"}
	case err != nil:
		return p, nil, nil, &schemas.Error{Kind: schemas.KindInvalid, Message: "the request body cannot be read"}
	}
	if err := schemas.CheckJSON(body); err != nil {
		return p, nil, nil, err
	}
	if err := json.Unmarshal(body, &p); err != nil {
		field := ""
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			field = wrong.Field
		}
		return p, nil, nil, &schemas.Error{Kind: schemas.KindInvalid, Field: field, Message: "has the wrong type"}
	}
	e, err = s.engine(p.Model)
	return p, e, body, err
}

// complete runs a request.
func (s *Server) complete(w http.ResponseWriter, h *http.Request) {
	p, e, body, err := s.read(w, h)
	if err != nil {
		refuse(w, err)
		return
	}
	r, err := s.newRequest(h, body)
	if err != nil {
		refuse(w, err)
		return
	}
	stream, err := e.Submit(h.Context(), r)
	if err != nil {
		refuse(w, err)
		return
	}
	defer stream.Close()
	if p.Stream {
		s.events(w, stream)
		return
	}
	for {
		ev, err := stream.Next()
		if err != nil {
			refuse(w, err)
			return
		}
		if d := ev.Done; d != nil {
			w.Header().Set("Content-Type", d.ContentType)
			w.WriteHeader(d.Status)
			_, _ = w.Write(d.Body)
			return
		}
	}
}

// events sends an answer while it grows. The header goes out at once, so that the client knows that its request was
// admitted; what fails after that is an error event.
func (s *Server) events(w http.ResponseWriter, stream consumers.Stream) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	if out.Flush() != nil {
		return
	}
	var b bytes.Buffer
	send := func(data []byte) error {
		b.Reset()
		b.WriteString("data: ")
		b.Write(data)
		b.WriteString("\n\n")
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
		return out.Flush()
	}
	for {
		ev, err := stream.Next()
		switch {
		case err != nil:
			text, _ := json.Marshal(describe(err))
			_ = send(text) // no [DONE] after it: the answer is not complete
			return
		case ev.Done != nil:
			_ = send([]byte("[DONE]"))
			return
		}
		if err := send(ev.Delta); err != nil {
			return // the client is gone; closing the stream cancels the request
		}
	}
}

// tokenize counts the tokens of a request's prompt.
func (s *Server) tokenize(w http.ResponseWriter, h *http.Request) {
	p, e, body, err := s.read(w, h)
	if err != nil {
		refuse(w, err)
		return
	}
	r := &consumers.Request{URL: consumers.PathCompletions, Body: body}
	switch {
	case p.Messages != nil:
		r.URL = consumers.PathChat
	case p.Input != nil:
		r.URL = consumers.PathEmbeddings
	}
	n, exact, err := e.Count(h.Context(), r)
	if err != nil {
		refuse(w, err)
		return
	}
	info, err := e.Info(h.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, Tokenized{n, exact, info.Context})
}

// Tokenized is the answer of /tokenize.
type Tokenized struct {
	Count  int  `json:"count"`
	Exact  bool `json:"exact"`
	MaxLen int  `json:"max_model_len"`
}
