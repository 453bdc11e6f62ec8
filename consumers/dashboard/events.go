package dashboard

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// hello is the first event of a stream: what the page needs to know about its server.
type hello struct {
	// Version names the page's files: a page that is of another version asks to be loaded again.
	Version string `json:"version"`
	// Actions tells whether actions are possible, with the token.
	Actions bool      `json:"actions"`
	Now     time.Time `json:"now"`
}

// serveEvents sends the asked sections whole at first, and then what changes in them.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request) {
	names, err := sectionsOf(r)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := eventWriter{out: w, control: http.NewResponseController(w)}
	if takesGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		out.pack, _ = gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is valid
		out.out = out.pack
		defer out.pack.Close()
	}
	greeting, err := json.Marshal(hello{d.version, d.conf.Token != "", d.conf.Now().UTC()})
	if err != nil || out.event("hello", greeting) != nil {
		return
	}
	var buffer []byte // of the last event, used again
	for seen := map[string]uint64{}; ; {
		fresh, changed := d.store.since(names, seen)
		for name, delta := range fresh {
			buffer = delta.encode(buffer[:0])
			if out.event(name, buffer) != nil {
				return
			}
		}
		if len(fresh) == 0 && out.comment() != nil || out.flush() != nil {
			return
		}
		if !pause(r.Context(), changed) {
			return
		}
	}
}

// eventWriter writes server-sent events, compressed or not.
type eventWriter struct {
	out     io.Writer
	pack    *gzip.Writer // nil when not compressed
	control *http.ResponseController
}

// event writes one event.
func (e *eventWriter) event(name string, data []byte) error {
	for _, part := range [][]byte{[]byte("event: " + name + "\ndata: "), data, []byte("\n\n")} {
		if _, err := e.out.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// comment writes a sign of life.
func (e *eventWriter) comment() error {
	_, err := io.WriteString(e.out, ": still here\n\n")
	return err
}

// flush sends what was written.
func (e *eventWriter) flush() error {
	if e.pack != nil {
		if err := e.pack.Flush(); err != nil {
			return err
		}
	}
	return e.control.Flush()
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
