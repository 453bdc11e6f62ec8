package dashboard

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

//go:embed static
var static embed.FS

// Limits of the server.
const (
	// MaxViewers bounds the open event streams; further ones get 503 with Retry-After.
	MaxViewers = 256
	// eventEvery is the shortest time between two events of one stream, keepAlive the longest.
	eventEvery = 500 * time.Millisecond
	keepAlive  = 15 * time.Second
	// maxAction bounds the body of an action.
	maxAction = 4 << 10
	// actionTimeout bounds an action.
	actionTimeout = 10 * time.Second
)

// Handler serves the pages, the data and the actions.
func (d *Dashboard) Handler() http.Handler {
	mux := http.NewServeMux()
	viewers := make(chan struct{}, MaxViewers)
	page := d.file("static/index.html", "text/html; charset=utf-8")
	mux.HandleFunc("GET /{$}", page)
	for _, name := range []string{"workers", "jobs", "dead", "money", "trust"} {
		mux.HandleFunc("GET /"+name, page)
	}
	mux.HandleFunc("GET /static/app.css", d.file("static/app.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /static/app.js", d.file("static/app.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /static/uplot.js", d.file("static/uplot.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /static/uplot.css", d.file("static/uplot.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /api/view", d.serveView)
	mux.HandleFunc("GET /api/events", func(w http.ResponseWriter, r *http.Request) {
		select {
		case viewers <- struct{}{}:
			defer func() { <-viewers }()
			d.serveEvents(w, r)
		default:
			w.Header().Set("Retry-After", "5")
			writeError(w, &schemas.Error{Kind: schemas.KindBusy, Message: "too many open pages"})
		}
	})
	mux.HandleFunc("GET /status", d.serveStatusPage)
	mux.HandleFunc("GET /status.json", d.serveStatus)
	mux.HandleFunc("POST /api/dead/replay", d.operator(d.replay))
	mux.HandleFunc("POST /api/workers/steer", d.operator(d.steer))
	return secured(mux)
}

// secured sets the headers that keep a page to itself and refuses writes from other origins.
func secured(next http.Handler) http.Handler {
	var origin http.CrossOriginProtection
	return origin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	}))
}

// file serves one embedded file with its hash as tag.
func (d *Dashboard) file(name, contentType string) http.HandlerFunc {
	b, err := static.ReadFile(name)
	if err != nil {
		panic("dashboard: " + name + " is embedded at build time and cannot be missing: " + err.Error())
	}
	tag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(b))[:16])
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "no-cache")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Write(b)
	}
}

// serveView writes all sections as one object.
func (d *Dashboard) serveView(w http.ResponseWriter, _ *http.Request) {
	sections, _ := d.since(nil)
	all := make(map[string]json.RawMessage, len(sections))
	for name, s := range sections {
		all[name] = s.json
	}
	writeJSON(w, http.StatusOK, all)
}

// serveEvents sends every section at first and then each one when it has changed.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	seen := map[string]uint64{}
	for {
		fresh, changed := d.since(seen)
		for name, s := range fresh {
			seen[name] = s.revision
			if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, s.json); err != nil {
				return
			}
		}
		if len(fresh) == 0 {
			if _, err := io.WriteString(w, ": still here\n\n"); err != nil {
				return
			}
		}
		if control.Flush() != nil {
			return
		}
		if !pause(r.Context(), changed) {
			return
		}
	}
}

// pause waits for a change, at least eventEvery and at most keepAlive; false means that the reader is gone.
func pause(ctx context.Context, changed <-chan struct{}) bool {
	wait(ctx, eventEvery)
	t := time.NewTimer(keepAlive)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// Status is the few figures that outsiders ask for.
type Status struct {
	Environment   schemas.Environment `json:"environment"`
	WorkersOnline int                 `json:"workers_online"`
	Models        int                 `json:"models"`
	JobsServed    uint64              `json:"jobs_served"`
	TokensServed  uint64              `json:"tokens_served"`
	// MedianSeconds is the median time from grant to outcome of the newest jobs.
	MedianSeconds float64         `json:"median_seconds"`
	Held          schemas.NanoTON `json:"held_nanoton"`
	Paid          schemas.NanoTON `json:"paid_nanoton"`
	// UptimeSeconds counts from when this page began to look.
	UptimeSeconds int64 `json:"uptime_seconds"`
	// Problem says what could not be read, empty when all could.
	Problem string `json:"problem,omitempty"`
}

// status reads the public figures from the last look.
func (d *Dashboard) status() Status {
	sections, _ := d.since(nil)
	var n Network
	var m Money
	json.Unmarshal(sections["network"].json, &n)
	json.Unmarshal(sections["money"].json, &m)
	s := Status{
		Environment: d.conf.Trust.Environment, WorkersOnline: n.WorkersOnline, Models: len(n.Models),
		JobsServed: n.JobsServed, TokensServed: n.TokensServed, MedianSeconds: n.MedianWait.Seconds(),
		Held: m.Held, Paid: m.Paid, UptimeSeconds: int64(d.conf.Now().Sub(d.started).Seconds()), Problem: n.Problem,
	}
	return s
}

// serveStatus writes the public figures.
func (d *Dashboard) serveStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, d.status())
}

// statusPage is the public page; it works without scripts.
var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"ton": func(n schemas.NanoTON) string { return n.String() },
	"up":  func(seconds int64) string { return (time.Duration(seconds) * time.Second).String() },
}).Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="15"><title>Cocoon status</title><link rel="stylesheet" href="/static/app.css">
<main class="status"><h1>Cocoon</h1>
{{if eq .Environment "simulated"}}<p class="banner">Simulated hardware: this network protects nothing and its money is not real.</p>{{end}}
{{if .Problem}}<p class="problem" role="alert">Figures may be old: {{.Problem}}</p>{{end}}
<dl class="figures">
<div><dt>Workers online</dt><dd>{{.WorkersOnline}}</dd></div><div><dt>Models</dt><dd>{{.Models}}</dd></div>
<div><dt>Jobs served</dt><dd>{{.JobsServed}}</dd></div><div><dt>Tokens served</dt><dd>{{.TokensServed}}</dd></div>
<div><dt>Median time</dt><dd>{{printf "%.2f s" .MedianSeconds}}</dd></div><div><dt>Held for tenants</dt><dd>{{ton .Held}}</dd></div>
<div><dt>Paid to owners</dt><dd>{{ton .Paid}}</dd></div><div><dt>Looking for</dt><dd>{{up .UptimeSeconds}}</dd></div>
</dl></main></html>
`))

// serveStatusPage writes the public figures as a page.
func (d *Dashboard) serveStatusPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := statusPage.Execute(w, d.status()); err != nil {
		d.conf.Log.Warn("status page", "error", err)
	}
}

// action does one thing for an operator.
type action func(ctx context.Context, body []byte) (any, error)

// operator lets an action through for whoever has the token. Comparing hashes takes the same time for every token.
func (d *Dashboard) operator(act action) http.HandlerFunc {
	want := sha256.Sum256([]byte(d.conf.Token))
	return func(w http.ResponseWriter, r *http.Request) {
		if d.conf.Token == "" {
			writeError(w, &schemas.Error{Kind: schemas.KindDenied, Message: "this dashboard is read-only: it was started without an operator token"})
			return
		}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		have := sha256.Sum256([]byte(token))
		if !ok || subtle.ConstantTimeCompare(want[:], have[:]) != 1 {
			writeError(w, &schemas.Error{Kind: schemas.KindDenied, Message: "wrong operator token"})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAction))
		if err != nil {
			writeError(w, &schemas.Error{Kind: schemas.KindTooLarge, Message: "an action has at most 4 KiB"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), actionTimeout)
		defer cancel()
		answer, err := act(ctx, body)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// replay puts the dead letter at a position back into its queue. A second call finds it gone and changes nothing.
func (d *Dashboard) replay(ctx context.Context, body []byte) (any, error) {
	var request struct {
		Seq uint64 `json:"seq"`
	}
	if err := schemas.DecodeJSON(body, &request, maxAction); err != nil {
		return nil, err
	}
	return d.conf.Bus.Replay(ctx, request.Seq)
}

// steer tells a worker to drain, to stop taking jobs or to take them again. It sets a state, so repeating it is harmless.
func (d *Dashboard) steer(ctx context.Context, body []byte) (any, error) {
	var request struct {
		Worker schemas.WorkerID    `json:"worker"`
		Order  streams.FleetWorker `json:"order"`
	}
	if err := schemas.DecodeJSON(body, &request, maxAction); err != nil {
		return nil, err
	}
	if _, err := schemas.ParseWorkerID(string(request.Worker)); err != nil {
		return nil, err
	}
	value, err := json.Marshal(request.Order)
	if err != nil {
		return nil, err
	}
	_, err = d.conf.Bus.Bucket(streams.BucketFleet).Put(ctx, streams.PrefixWorker+string(request.Worker), value)
	return request, err
}

// writeJSON answers with a JSON document.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"kind":"internal"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
}

// writeError answers with the kind, the field and the message of an error, never with its cause.
func writeError(w http.ResponseWriter, err error) {
	e := &schemas.Error{Kind: schemas.KindInternal, Message: "something failed here"}
	errors.As(err, &e)
	status := http.StatusInternalServerError
	switch e.Kind {
	case schemas.KindInvalid:
		status = http.StatusBadRequest
	case schemas.KindTooLarge:
		status = http.StatusRequestEntityTooLarge
	case schemas.KindDenied:
		status = http.StatusForbidden
	case schemas.KindNotFound:
		status = http.StatusNotFound
	case schemas.KindConflict, schemas.KindExpired:
		status = http.StatusConflict
	case schemas.KindBusy, schemas.KindUnavailable:
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, map[string]any{"error": map[string]string{"kind": e.Kind.String(), "field": e.Field, "message": e.Message}})
}
