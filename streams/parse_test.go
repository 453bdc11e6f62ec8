package streams

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// FuzzHeader: stored headers never make the parser panic, and what it reads is spelled again to the same.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{
		"NATS/1.0\r\nce-id: a\r\nce-id: b\r\n\r\n", "NATS/1.0 100 Idle\r\n\r\n", "NATS/1.0\r\n: x\r\n\r\n", "", "HTTP/1.1\r\n\r\n",
		"NATS/1.0\r\ntraceparent: 00-ab\r\nX:y\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := parseHeader(text)
		if err != nil {
			return
		}
		spelled := []byte(headerLine + "\r\n")
		for name, values := range h {
			for _, v := range values {
				spelled = append(spelled, name+": "+v+"\r\n"...)
			}
		}
		again, err := parseHeader(append(spelled, "\r\n"...))
		if err != nil {
			t.Fatalf("%q: %v", spelled, err)
		}
		if len(again) != len(h) {
			t.Errorf("%d names became %d", len(h), len(again))
		}
	})
}

// FuzzSubjects: the parsers of subjects and names accept only what they would spell themselves.
func FuzzSubjects(f *testing.F) {
	f.Add("q.0.model-1.standard.3.taaaaaaaaaaaaaaaa")
	f.Add("model-1_standard_3")
	f.Add("dlq.m.standard.t.j")
	f.Add("0.model")
	f.Fuzz(func(t *testing.T, s string) {
		if q, err := parseQueueSubject(s); err == nil && q.route.Check() != nil {
			t.Errorf("%q: a route that is none", s)
		}
		if q, lane, ok := parseQueueName(7, s); ok && QueueName(q.Route.Slug, q.Class, lane) != s {
			t.Errorf("%q is spelled %q", s, QueueName(q.Route.Slug, q.Class, lane))
		}
		if r, err := ParseRoute(s); err == nil && r.String() != s {
			t.Errorf("%q is spelled %q", s, r)
		}
		if d, err := parseDead(stored{subject: s, header: nats.Header{}}); err == nil && d.Job != "" && len(d.Job) != 26 {
			t.Errorf("%q: job %q", s, d.Job)
		}
		_ = parseRemote([]byte(s))
		_, _ = parseAudit([]byte(s))
	})
}
