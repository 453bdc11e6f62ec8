package streams

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
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
		m := &nats.Msg{Subject: s, Header: nats.Header{jetstream.SequenceHeader: {"7"}}}
		if a, err := parseArrival(t.Context(), m); err == nil && (a.Seq != 7 || a.Queue.Route.Check() != nil) {
			t.Errorf("%q: arrival %+v", s, a)
		}
	})
}

// FuzzEntries: what stands in buckets and audit messages, and errors of other processes, are written again to what reads
// the same.
func FuzzEntries(f *testing.F) {
	for i, s := range []string{
		`{"worker":"waaaaaaaaaaaaaaaa","state":"serving","ask":10000,"models":[{"model":"m","route":{"shard":1,"slug":"m"},"slots":2,"busy":1}],"started":"2026-01-01T00:00:00Z"}`,
		`{"standing":"good","windows":[{"span":60000000000,"succeeded":1}],"updated":"2026-01-01T00:00:00Z"}`, `{"min":1,"max":2}`, `{"drain":true,"ask":5}`,
		`[{"time":"2026-01-01T00:00:00Z","broker":"00112233445566778899aabbccddeeff","verb":"grant","kind":3}]`,
		`{"name":"n","size":3,"hash":"sha256-00000000000000000000000000000000000000000000000000000000000000be"}`, `{"kind":2,"field":"x","retry_after_ms":5}`,
	} {
		f.Add(uint8(i), []byte(s))
	}
	parsers := []func([]byte) (any, error){
		func(b []byte) (any, error) { return ParseWorkerEntry(b) },
		func(b []byte) (any, error) { return ParseReputation(b) },
		func(b []byte) (any, error) { return ParseFleetModel(b) },
		func(b []byte) (any, error) { return ParseFleetWorker(b) },
		func(b []byte) (any, error) { return parseAudit(b) },
		func(b []byte) (any, error) { return parseObject("n", b) },
		func(b []byte) (any, error) {
			err := parseRemote(b)
			if schemas.KindOf(err) == schemas.KindInternal {
				return nil, err // it could not be read, or says no more
			}
			return json.RawMessage(errorAnswer(err).Data), nil
		},
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		parse := parsers[int(which)%len(parsers)]
		v, err := parse(b)
		if err != nil {
			return
		}
		one, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", b, err)
		}
		again, err := parse(one)
		if err != nil {
			t.Fatalf("%s, as it is written, is refused: %v", one, err)
		}
		if two, err := json.Marshal(again); err != nil || string(two) != string(one) {
			t.Errorf("%s is written again as %s (%v)", one, two, err)
		}
	})
}
