package consumers

import (
	"context"
	"log/slog"
	"slices"
)

// logKeys is everything a worker may write to a log. A worker holds the plaintext of strangers, so its log is an
// allow-list: an attribute under any other key is withheld, whoever wrote it. There is no key for tenants, requests or
// answers; "kind" is an error kind's name, and "error" is for failures of the network and the machine, never of a
// request, whose message an engine may have written.
var logKeys = []string{
	"worker", "model", "class", "job", "kind", "error", "status", "attempt", "delivered", "slots", "running", "held",
	"reason", "ask", "environment", "evidence", "until", "after", "took", "count", "version", "host",
}

// withheld stands for a value whose key is not on the list.
const withheld = "[withheld]"

// allowList passes on only what logKeys names.
type allowList struct{ next slog.Handler }

// quiet returns a logger that withholds everything not on the list; nil logs nothing.
func quiet(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(allowList{l.Handler()})
}

// Enabled implements slog.Handler.
func (h allowList) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h allowList) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(allowed(a))
		return true
	})
	return h.next.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (h allowList) WithAttrs(attrs []slog.Attr) slog.Handler {
	kept := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		kept[i] = allowed(a)
	}
	return allowList{h.next.WithAttrs(kept)}
}

// WithGroup implements slog.Handler. Groups are ignored: a group's name would be one more way around the list.
func (h allowList) WithGroup(string) slog.Handler { return h }

// allowed returns a with its value, or with withheld in its place.
func allowed(a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindGroup || !slices.Contains(logKeys, a.Key) {
		return slog.String(a.Key, withheld)
	}
	return a
}
