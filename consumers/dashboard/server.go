package dashboard

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
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
	// maxQuery bounds the query of any request in bytes, maxPage the dead letters of one page.
	maxQuery = 1 << 10
	maxPage  = 100
)

// Handler serves the pages, the data and the actions.
func (d *Dashboard) Handler() http.Handler {
	mux := http.NewServeMux()
	viewers := make(chan struct{}, MaxViewers)
	page := d.asset("static/index.html", "text/html; charset=utf-8")
	mux.HandleFunc("GET /{$}", page)
	for _, name := range []string{"workers", "jobs", "batches", "dead", "money", "trust"} {
		mux.HandleFunc("GET /"+name, page)
	}
	for name, contentType := range map[string]string{
		"app.css": "text/css; charset=utf-8", "uplot.css": "text/css; charset=utf-8", "app.js": scriptType, "pages.js": scriptType, "uplot.js": scriptType,
	} {
		mux.HandleFunc("GET /static/"+name, d.asset("static/"+name, contentType))
	}
	mux.HandleFunc("GET /api/view", d.serveView)
	mux.HandleFunc("GET /api/workers/{worker}", d.serveWorker)
	mux.HandleFunc("GET /api/dead", d.serveDead)
	mux.HandleFunc("GET /api/dead/{seq}", d.serveDeadLetter)
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

// scriptType is the content type of scripts.
const scriptType = "text/javascript; charset=utf-8"

// secured sets the headers that keep a page to itself and refuses writes from other origins.
func secured(next http.Handler) http.Handler {
	var origin http.CrossOriginProtection
	return origin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if len(r.URL.RawQuery) > maxQuery {
			writeError(w, &schemas.Error{Kind: schemas.KindTooLarge, Field: "query", Message: "has more than 1 KiB"})
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// asset serves one embedded file, compressed for those who take it, with its hash as tag.
func (d *Dashboard) asset(name, contentType string) http.HandlerFunc {
	plain, err := static.ReadFile(name)
	if err != nil {
		panic("dashboard: " + name + " is embedded at build time and cannot be missing: " + err.Error())
	}
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is valid, and a buffer takes everything
	z.Write(plain)
	z.Close()
	tag := tagOf(plain)
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("ETag", tag)
		h.Set("Cache-Control", "no-cache")
		h.Set("Vary", "Accept-Encoding")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", contentType)
		body := plain
		if takesGzip(r) {
			h.Set("Content-Encoding", "gzip")
			body = packed.Bytes()
		}
		h.Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}
}

// assetsVersion names all embedded files together.
func assetsVersion() string {
	all := sha256.New()
	entries, _ := static.ReadDir("static") // embedded at build time
	for _, e := range entries {
		b, _ := static.ReadFile("static/" + e.Name())
		all.Write(b)
	}
	return fmt.Sprintf("%x", all.Sum(nil)[:8])
}

// tagOf is the entity tag of a file.
func tagOf(b []byte) string { return fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(b))[:16]) }

// takesGzip reports whether a browser takes compressed answers.
func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if name, weight, _ := strings.Cut(strings.TrimSpace(part), ";"); name == "gzip" && strings.TrimSpace(weight) != "q=0" {
			return true
		}
	}
	return false
}

// sectionsOf reads which sections a request is about; none named means all.
func sectionsOf(r *http.Request) ([]string, error) {
	text := r.URL.Query().Get("sections")
	if text == "" {
		names := make([]string, 0, len(sectionRows))
		for name := range sectionRows {
			names = append(names, name)
		}
		return names, nil
	}
	names := strings.Split(text, ",")
	for _, name := range names {
		if _, ok := sectionRows[name]; !ok {
			return nil, schemas.FieldError("sections", "names a section that does not exist")
		}
	}
	return names, nil
}

// serveView writes sections as one object.
func (d *Dashboard) serveView(w http.ResponseWriter, r *http.Request) {
	names, err := sectionsOf(r)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, d.store.view(names))
}

// serveWorker writes everything that brokers found in a worker's evidence.
func (d *Dashboard) serveWorker(w http.ResponseWriter, r *http.Request) {
	id, err := schemas.ParseWorkerID(r.PathValue("worker"))
	if err != nil {
		writeError(w, err)
		return
	}
	detail, err := d.fleet.detail(id)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, detail)
}

// serveDead writes a page of dead letters, newest first, from before a position.
func (d *Dashboard) serveDead(w http.ResponseWriter, r *http.Request) {
	before, err := strconv.ParseUint(r.URL.Query().Get("before"), 10, 64)
	if err != nil || before == 0 {
		writeError(w, schemas.FieldError("before", "must be a position"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookTimeout)
	defer cancel()
	letters, err := d.conf.Bus.NewestDead(ctx, before, maxPage)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, Dead{Count: uint64(len(letters)), Letters: letters})
}

// serveDeadLetter writes one dead letter with its public attributes, without its sealed body.
func (d *Dashboard) serveDeadLetter(w http.ResponseWriter, r *http.Request) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil || seq == 0 {
		writeError(w, schemas.FieldError("seq", "must be a position"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookTimeout)
	defer cancel()
	letter, err := d.conf.Bus.DeadLetterAt(ctx, seq)
	if err != nil {
		writeError(w, err)
		return
	}
	letter.Body = nil
	writeJSON(w, http.StatusOK, letter)
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
