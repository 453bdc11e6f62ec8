package streams_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestRefusedAtTheDoor: what can never be a job is refused by the publisher, with the field.
func TestRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	for name, c := range map[string]struct {
		change func(*streams.Job)
		want   schemas.Kind
	}{
		"no envelope":      {func(j *streams.Job) { j.Envelope = nil }, schemas.KindInvalid},
		"a huge envelope":  {func(j *streams.Job) { j.Envelope = make([]byte, streams.MaxEnvelope+1) }, schemas.KindTooLarge},
		"a long trace":     {func(j *streams.Job) { j.TraceParent = strings.Repeat("0", 200) }, schemas.KindInvalid},
		"no shard":         {func(j *streams.Job) { j.Shard = -1 }, schemas.KindInvalid},
		"a dotted tenant":  {func(j *streams.Job) { j.Attributes.Tenant = "t.>" }, schemas.KindInvalid},
		"a wildcard model": {func(j *streams.Job) { j.Attributes.Model = "*@1:sha256-00" }, schemas.KindInvalid},
		"an unknown class": {func(j *streams.Job) { j.Attributes.Class = "urgent" }, schemas.KindInvalid},
		"a bad id":         {func(j *streams.Job) { j.Attributes.ID = "job\r\nNats-Rollup: all" }, schemas.KindInvalid},
		"an expired job": {func(j *streams.Job) {
			j.Attributes.Time = j.Attributes.Time.Add(-2 * time.Hour)
			j.Attributes.Expiry = j.Attributes.Expiry.Add(-2 * time.Hour)
		}, schemas.KindExpired},
		"no stream for it":  {func(j *streams.Job) { j.Shard = 7 }, schemas.KindUnavailable},
		"no attempts at it": {func(j *streams.Job) { j.Attributes.Attempts = 0 }, schemas.KindInvalid},
	} {
		j := streamstest.Job(schemas.NewTenantID(), []byte("sealed"), nil)
		c.change(&j)
		if name == "no stream for it" {
			short, cancel := contextFor(t, 2*time.Second)
			if _, err := bus.PublishJob(short, j); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			continue
		}
		if _, err := bus.PublishJob(ctx, j); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestFullQueue: a tenant's full queue says busy, and when; other tenants are not concerned; bulk submission can wait.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	bus, _ := streamstest.NewWith(t, streamstest.Options{Topology: streams.Topology{TenantQueue: 10}})
	ctx := streamstest.Context(t)
	tenant := schemas.NewTenantID()
	jobs := publish(t, bus, tenant, 10, nil)
	_, err := bus.PublishJob(ctx, streamstest.Job(tenant, []byte("one more"), nil))
	var busy *schemas.Error
	if !errors.As(err, &busy) || busy.Kind != schemas.KindBusy || busy.RetryAfter == 0 {
		t.Errorf("a full queue: %v", err)
	}
	if ack, err := bus.PublishJob(ctx, jobs[0]); err != nil || !ack.Duplicate {
		t.Errorf("an accepted job again: %+v %v", ack, err)
	}
	publish(t, bus, schemas.NewTenantID(), 1, nil)
	publish(t, bus, tenant, 1, class(schemas.Priority))

	p := puller(t, bus, streams.PullerOptions{Classes: []schemas.Class{schemas.Standard}})
	pulling, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			ds, err := p.Next(pulling, 1)
			if err != nil {
				return
			}
			_ = ds[0].Done(ctx)
		}
	}()
	defer func() { stop(); <-ended }()
	n := 0
	for r := range bus.PublishJobs(ctx, func(yield func(streams.Job) bool) {
		for i := range 50 {
			if !yield(streamstest.Job(tenant, fmt.Appendf(nil, "bulk %d", i), nil)) {
				return
			}
		}
	}, streams.BulkOptions{Window: 32, WaitBusy: 30 * time.Second}) {
		if r.Err != nil {
			t.Errorf("bulk %d: %v", r.Index, r.Err)
		}
		n++
	}
	if n != 50 {
		t.Errorf("%d results", n)
	}
}

// TestForgedMessages: whatever else reaches a queue is turned into a dead letter and never handed out; the job behind it is.
func TestForgedMessages(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	tenant, other := schemas.NewTenantID(), schemas.NewTenantID()
	subject := streams.SubjectJob(streamstest.Route, schemas.Standard, tenant)
	send := func(change func(*nats.Msg)) {
		t.Helper()
		j := streamstest.Job(tenant, []byte("sealed "+schemas.NewJobID()), nil)
		m := nats.NewMsg(subject)
		m.Header, m.Data = nats.Header(j.Attributes.Header()), j.Envelope
		change(m)
		if err := bus.Conn().PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	forged := map[string]func(*nats.Msg){
		"no headers":     func(m *nats.Msg) { m.Header = nil },
		"another tenant": func(m *nats.Msg) { m.Header["ce-source"] = []string{"/tenants/" + string(other)} },
		"another class":  func(m *nats.Msg) { m.Header["ce-cocoonclass"] = []string{"priority"} },
		"another model": func(m *nats.Msg) {
			m.Header["ce-subject"] = []string{strings.Replace(string(streamstest.Model), "test/", "rest/", 1)}
		},
		"two ids":              func(m *nats.Msg) { m.Header["ce-id"] = append(m.Header["ce-id"], string(schemas.NewJobID())) },
		"an upper-case header": func(m *nats.Msg) { m.Header["CE-ID"] = m.Header["ce-id"] },
		"a wrong specversion":  func(m *nats.Msg) { m.Header["ce-specversion"] = []string{"0.3"} },
		"an unknown attribute": func(m *nats.Msg) { m.Header["ce-extra"] = []string{"x"} },
		"no UTF-8":             func(m *nats.Msg) { m.Header["ce-id"] = []string{"\xff\xfe"} },
		"10,000 headers": func(m *nats.Msg) {
			for i := range 10_000 {
				m.Header[fmt.Sprintf("x-%d", i)] = []string{strings.Repeat("y", 8)}
				m.Header["ce-id"] = nil
			}
		},
		"a body that is not there": func(m *nats.Msg) {
			m.Data = nil
			m.Header["cocoon-body"], m.Header["cocoon-body-size"] = []string{schemas.HashOf(nil).String()}, []string{"7"}
		},
		"a body of 100 TiB": func(m *nats.Msg) {
			m.Data = nil
			m.Header["cocoon-body"], m.Header["cocoon-body-size"] = []string{schemas.HashOf(nil).String()}, []string{"100000000000000"}
		},
		"two bodies": func(m *nats.Msg) {
			m.Header["cocoon-body"], m.Header["cocoon-body-size"] = []string{schemas.HashOf(nil).String()}, []string{"7"}
		},
	}
	for _, change := range forged {
		send(change)
	}
	good := publish(t, bus, tenant, 1, nil)[0]
	p := puller(t, bus, streams.PullerOptions{})
	ds, err := p.Next(ctx, 64)
	if err != nil || len(ds) != 1 || ds[0].Attributes.ID != good.Attributes.ID {
		t.Fatalf("%d deliveries, %v", len(ds), err)
	}
	letters := 0
	for d, err := range bus.DeadLetters(ctx, streams.DeadSelector{Tenant: tenant}) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Kind == schemas.KindUnknown || d.Reason == "" {
			t.Errorf("a letter without a reason: %+v", d)
		}
		if _, err := bus.Replay(ctx, d.Seq); d.Job == "" && !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("a letter that never was a job can be replayed: %v", err)
		}
		letters++
	}
	if letters != len(forged)-1 && letters != len(forged) { // 10,000 headers may be more than the stream takes
		t.Errorf("%d dead letters for %d forged messages", letters, len(forged))
	}
}

// TestHeaderAttacks: what anybody who may publish could try with headers of the server.
func TestHeaderAttacks(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	victim, attacker := schemas.NewTenantID(), schemas.NewTenantID()
	publish(t, bus, victim, 3, nil)
	queued := func() int {
		t.Helper()
		n := 0
		if err := bus.ScanQueued(ctx, 0, victim, 1, func(streams.Queued) (bool, error) { n++; return true, nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	own := streams.SubjectJob(streamstest.Route, schemas.Standard, attacker)
	for name, header := range map[string][2]string{
		"rollup of everything": {"Nats-Rollup", "all"},
		"rollup of a subject":  {"Nats-Rollup", "sub"},
		"a schedule":           {"Nats-Schedule", "@at 2030-01-01T00:00:00Z"},
		"a schedule's target":  {"Nats-Schedule-Target", streams.SubjectJob(streamstest.Route, schemas.Standard, victim)},
	} {
		m := nats.NewMsg(own)
		m.Header.Set(header[0], header[1])
		if name == "a schedule's target" {
			m.Header.Set("Nats-Schedule", "@at 2020-01-01T00:00:00Z")
		}
		_, _ = bus.Conn().RequestMsgWithContext(ctx, m)
		if n := queued(); n != 3 {
			t.Errorf("%s: %d of the victim's jobs left", name, n)
		}
	}
	// A rival who knows a job's id cannot spend it: outcomes carry no message id.
	job := streamstest.Job(victim, []byte("sealed"), nil)
	m := nats.NewMsg("out." + string(attacker) + "." + string(schemas.NewJobID()))
	m.Header.Set(jetstream.MsgIDHeader, "out."+string(job.Attributes.ID))
	if _, err := bus.Conn().RequestMsgWithContext(ctx, m); err != nil {
		t.Fatal(err)
	}
	if first, err := bus.PublishOutcome(ctx, streamstest.Outcome(job.Attributes, []byte("result"))); err != nil || !first {
		t.Errorf("outcome: %v %v", first, err)
	}
	// And one who leaves out the compare-and-set is refused by the stream.
	again := nats.NewMsg(streams.SubjectOutcome(victim, job.Attributes.ID))
	again.Data = []byte("overwritten")
	if _, err := bus.Conn().RequestMsgWithContext(ctx, again); err != nil {
		t.Fatal(err)
	}
	if o, err := bus.Outcome(ctx, victim, job.Attributes.ID); err != nil || string(o.Body) != "result" {
		t.Errorf("the outcome that stands: %q %v", o.Body, err)
	}
}
