package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// guard admits a caller and turns a handler's error into an answer.
func (g *Gateway) guard(h func(http.ResponseWriter, *http.Request, *caller) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := g.admit(r)
		if err == nil {
			err = h(w, r, c)
		}
		if err != nil {
			g.refuse(w, r, err)
		}
	}
}

// errGone says that the HTTP client went away: there is nobody to answer.
var errGone = errors.New("gateway: the client is gone")

// httpError is a refusal with a status of its own.
type httpError struct {
	status int
	kind   string
	code   string
	err    *schemas.Error
}

// Error is the refusal's message.
func (e *httpError) Error() string { return e.err.Error() }

// Unwrap is the refusal as others know it.
func (e *httpError) Unwrap() error { return e.err }

// refuse answers with an error object.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errGone) {
		return
	}
	refusal := refusalOf(err)
	if refusal.Status >= http.StatusInternalServerError {
		g.o.Logger.Warn("request failed", "request", w.Header().Get("X-Request-Id"), "path", clip(r.URL.Path), "kind", schemas.KindOf(err).String(), "error", err)
	}
	h := w.Header()
	h.Set("X-Should-Retry", strconv.FormatBool(refusal.Retry))
	if refusal.After > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(refusal.After.Seconds()))))
	}
	g.write(w, refusal.Status, openai.JSON, refusal.Body())
}

// refusalOf gives an error its HTTP form.
func refusalOf(err error) openai.Refusal {
	refusal := openai.RefusalOf(err)
	var own *httpError
	if errors.As(err, &own) {
		refusal.Status, refusal.Error.Type, refusal.Error.Code = own.status, own.kind, &own.code
	}
	return refusal
}

// write answers with a body.
func (g *Gateway) write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	g.extend(w)
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		g.o.Logger.Debug("answer not taken", "error", err)
	}
}

// writeJSON answers with a value.
func (g *Gateway) writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "encode answer: %w", err)
	}
	g.write(w, http.StatusOK, openai.JSON, b)
	return nil
}

// extend gives a client that does not read the time of one write. Writers without deadlines, such as a test's recorder,
// have none.
func (g *Gateway) extend(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(g.o.WriteTimeout))
}

// body reads a request's body of at most limit bytes. A client may be slow, but not silent for BodyTimeout.
func (g *Gateway) body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	b, err := io.ReadAll(g.patient(w, r, limit))
	if err != nil {
		return nil, bodyError(err, limit)
	}
	return b, nil
}

// tooLarge refuses a body by its size.
func tooLarge(limit int64) error {
	return &httpError{http.StatusRequestEntityTooLarge, "invalid_request_error", "request_too_large", &schemas.Error{
		Kind: schemas.KindTooLarge, Message: "the body is longer than " + strconv.FormatInt(limit, 10) + " bytes",
	}}
}

// bodyError says why a body could not be read.
func bodyError(err error, limit int64) error {
	var long *http.MaxBytesError
	var e *schemas.Error
	switch {
	case errors.As(err, &long):
		return tooLarge(limit)
	case errors.As(err, &e):
		return e
	}
	return &httpError{http.StatusRequestTimeout, "invalid_request_error", "incomplete_body", &schemas.Error{
		Kind: schemas.KindInvalid, Message: "the body did not arrive", Err: err,
	}}
}

// patient reads a body, giving each read a time limit of its own.
func (g *Gateway) patient(w http.ResponseWriter, r *http.Request, limit int64) io.Reader {
	return &patientReader{src: http.MaxBytesReader(w, r.Body, limit), c: http.NewResponseController(w), wait: g.o.BodyTimeout}
}

// patientReader moves the connection's read deadline on with every read.
type patientReader struct {
	src  io.Reader
	c    *http.ResponseController
	wait time.Duration
}

// Read reads within the time limit.
func (p *patientReader) Read(b []byte) (int, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(p.wait))
	n, err := p.src.Read(b)
	if err != nil {
		_ = p.c.SetReadDeadline(time.Time{}) // the next request on the connection has its own limits
	}
	return n, err
}
