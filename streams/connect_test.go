package streams_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestEnvironment: NATS_CONTEXT, NATS_URL and the defaults, in this order, under what is given.
func TestEnvironment(t *testing.T) {
	server := streamstest.Server(t, embedded.Options{Port: -1})
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	if err := os.MkdirAll(filepath.Join(dir, "nats", "context"), 0o700); err != nil {
		t.Fatal(err)
	}
	context := func(name, text string) string {
		path := filepath.Join(dir, "nats", "context", name+".json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := context("good", `{"url": "`+server.URL()+`", "description": "other fields are for others"}`)
	context("broken", `{`)
	const nowhere = "nats://127.0.0.1:1"
	for name, c := range map[string]struct {
		conf     streams.Config
		url, ctx string
		want     schemas.Kind
	}{
		"NATS_URL":            {url: server.URL()},
		"NATS_CONTEXT":        {url: nowhere, ctx: "good"},
		"a context":           {conf: streams.Config{Context: "good"}, url: nowhere, ctx: "broken"},
		"a context's file":    {conf: streams.Config{Context: good}},
		"the url over it":     {conf: streams.Config{URL: server.URL()}, url: nowhere, ctx: "broken"},
		"no such context":     {conf: streams.Config{Context: "none"}, want: schemas.KindNotFound},
		"a broken context":    {ctx: "broken", want: schemas.KindInvalid},
		"nobody there":        {url: nowhere, want: schemas.KindUnavailable},
		"no creds file":       {conf: streams.Config{URL: server.URL(), NKeySeedFile: filepath.Join(dir, "none")}, want: schemas.KindInvalid},
		"too short a retry":   {conf: streams.Config{URL: server.URL(), RetryFor: time.Second}, want: schemas.KindInvalid},
		"a negative timeout ": {conf: streams.Config{URL: server.URL(), RequestTimeout: -1}, want: schemas.KindInvalid},
	} {
		t.Setenv("NATS_URL", c.url)
		t.Setenv("NATS_CONTEXT", c.ctx)
		t.Setenv("NATS_CREDS", "")
		c.conf.ConnectTimeout = 300 * time.Millisecond
		bus, err := streams.Connect(t.Context(), c.conf)
		if schemas.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if bus != nil {
			_ = bus.Close(t.Context())
		}
	}
}

// TestReconnect: a server that goes and comes back on the same port: calls in between fail with KindUnavailable when they are
// not allowed to wait, succeed when they are, feeds say that something may be missing, and an awaited outcome arrives.
func TestReconnect(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), streamstest.Context(t)
	server, err := embedded.Start(embedded.Options{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	bus := streamstest.Connect(t, nil, streams.Config{URL: server.URL()})
	if _, err := bus.Apply(ctx, streams.Topology{}); err != nil {
		t.Fatal(err)
	}
	tenant := schemas.NewTenantID()
	job := streamstest.Job(tenant, []byte("sealed"), nil)
	feed, err := bus.Outcomes(ctx, tenant)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	awaited := make(chan error, 1)
	go func() {
		_, err := bus.AwaitOutcome(ctx, tenant, job.Attributes.ID)
		awaited <- err
	}()
	p := puller(t, bus, streams.PullerOptions{})
	port := 0
	for _, c := range server.URL()[len("nats://127.0.0.1:"):] {
		port = port*10 + int(c-'0')
	}
	server.Close()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := bus.PublishJob(short, job); !errors.Is(err, schemas.KindUnavailable) {
		t.Errorf("while the server is away: %v", err)
	}
	published := make(chan error, 1)
	go func() {
		_, err := bus.PublishJob(ctx, job)
		published <- err
	}()
	streamstest.Server(t, embedded.Options{Dir: dir, Port: port})
	if err := <-published; err != nil {
		t.Errorf("publish over the gap: %v", err)
	}
	var ds []*streams.Delivery
	for ds == nil {
		if ds, err = p.Next(ctx, 1); err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if _, err := bus.PublishOutcome(ctx, streamstest.Outcome(ds[0].Attributes, []byte("result"))); err != nil {
		t.Error(err)
	}
	if err := <-awaited; err != nil {
		t.Errorf("the awaited outcome: %v", err)
	}
	if _, err := feed.Next(ctx); !errors.Is(err, streams.ErrMissed) {
		t.Errorf("a feed after the gap: %v", err)
	}
	if o, err := feed.Next(ctx); err != nil || o.Job != job.Attributes.ID {
		t.Errorf("and then: %v", err)
	}
}

// TestReceiptFeed: any position, batches, waiting, holes by age or a new stream.
func TestReceiptFeed(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	store := func(n int) {
		t.Helper()
		for range n {
			j := streamstest.Job(schemas.NewTenantID(), []byte("sealed"), nil)
			if _, err := bus.PublishOutcome(ctx, streamstest.Outcome(j.Attributes, make([]byte, 1000))); err != nil {
				t.Fatal(err)
			}
		}
	}
	feed := bus.Receipts()
	defer feed.Close()
	store(25)
	var after uint64
	for _, want := range []int{10, 10, 5} {
		list, err := feed.Read(ctx, after, 10)
		if err != nil || len(list) != want || list[0].Seq != after+1 {
			t.Fatalf("after %d: %d, %v", after, len(list), err)
		}
		after = list[len(list)-1].Seq
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if list, err := feed.Read(short, after, 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing new: %d %v", len(list), err)
	}
	waiting := make(chan error, 1)
	go func() {
		list, err := feed.Read(ctx, after, 10)
		if err == nil && (len(list) != 1 || list[0].Seq != 26) {
			err = errors.New("wrong receipts")
		}
		waiting <- err
	}()
	store(1)
	if err := <-waiting; err != nil {
		t.Errorf("waiting: %v", err)
	}
	if list, err := feed.Read(ctx, 3, 5000); err != nil || len(list) != 23 || list[0].Seq != 4 {
		t.Errorf("back to an older position: %d %v", len(list), err)
	}
	if _, err := feed.Read(ctx, 1000, 1); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("beyond the end: %v", err)
	}
	for seq := uint64(1); seq <= 5; seq++ {
		if err := streams.DeleteMessage(ctx, bus, "OUT", seq); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := feed.Read(ctx, 2, 1); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("a hole: %v", err)
	}
	if list, err := feed.Read(ctx, 5, 1); err != nil || list[0].Seq != 6 {
		t.Errorf("no hole: %v", err)
	}
	if s, err := feed.State(ctx); err != nil || s.First != 6 || s.Last != 26 || s.Created.IsZero() {
		t.Errorf("state %+v %v", s, err)
	}
}
