package producers_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/producers/sqlite"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.init.5.func1"),       // the server's clock
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"), // the same, by its new name
	)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	w, _ := n.Work(t, producerstest.Echo)
	tenant := n.Net.Tenant(t)
	c := n.Client(t, producerstest.As(tenant))
	job := producers.Job{Body: producerstest.Ask("once", ""), IdempotencyKey: "key"}
	var wg sync.WaitGroup
	ids := make([]schemas.JobID, 8)
	for i := range ids {
		wg.Go(func() {
			h, err := c.Submit(patience(t), job)
			if err != nil {
				t.Error(err)
				return
			}
			a, err := h.Wait(patience(t))
			if err != nil || a.Text() != producerstest.Say("once") {
				t.Errorf("Wait = %+v, %v", a, err)
			}
			ids[i] = h.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("one key has the jobs %s and %s", id, ids[0])
		}
	}
	if _, err := c.Do(patience(t), producers.Job{Body: producerstest.Ask("other", ""), IdempotencyKey: "key"}); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("another request under the key = %v, want KindConflict", err)
	}
	// Another machine of the tenant, without the record, gets the same answer and runs nothing.
	other := n.Client(t, producerstest.As(tenant))
	a, err := other.Do(patience(t), job)
	if err != nil || a.Job != ids[0] {
		t.Errorf("on another machine: %+v, %v", a, err)
	}
	if w.Runs() != 1 {
		t.Errorf("ran %d times, want once", w.Runs())
	}
}

// TestFailureIsNoAnswer submits a key again after a failure that cost nothing: it is tried again.
func TestFailureIsNoAnswer(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	fails := 2
	var mu sync.Mutex
	n.Work(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		mu.Lock()
		defer mu.Unlock()
		if fails--; fails >= 0 {
			return schemas.Failure(&schemas.Error{Kind: schemas.KindPoison, Message: "broke"})
		}
		return producerstest.Echo(ctx, r, emit)
	})
	c := n.Client(t)
	job := producers.Job{Body: producerstest.Ask("again", ""), IdempotencyKey: "key"}
	for range 2 {
		if _, err := c.Do(patience(t), job); !errors.Is(err, schemas.KindPoison) {
			t.Fatalf("Do = %v, want KindPoison", err)
		}
	}
	if a, err := c.Do(patience(t), job); err != nil || a.Text() != producerstest.Say("again") {
		t.Errorf("the third time: %+v, %v", a, err)
	}
}

// records lists the ways to remember across processes.
var records = map[string]func(t *testing.T, dir string) producers.Record{
	"file": openFile,
	"sqlite": func(t *testing.T, dir string) producers.Record {
		r, err := sqlite.Open(t.Context(), filepath.Join(dir, "jobs.db"))
		if err != nil {
			t.Fatal(err)
		}
		return r
	},
}

// TestResume submits jobs, dies before any is answered, and takes them up in another process.
func TestResume(t *testing.T) {
	t.Parallel()
	for name, open := range records {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const jobs = 20
			n := producerstest.New(t)
			tenant, dir := n.Net.Tenant(t), t.TempDir()
			r := open(t, dir)
			c := n.Client(t, producerstest.As(tenant), producerstest.With(r))
			asked := map[schemas.JobID]bool{}
			for range jobs {
				h, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("later", "")})
				if err != nil {
					t.Fatal(err)
				}
				asked[h.ID] = true
			}
			if err := errors.Join(c.Close(t.Context()), r.Close()); err != nil {
				t.Fatal(err)
			}
			w, _ := n.Work(t, producerstest.Echo)
			r = open(t, dir)
			defer r.Close()
			c = n.Client(t, producerstest.As(tenant), producerstest.With(r))
			for s, err := range c.Resume(patience(t)) {
				if err != nil || s.Err != nil || s.Answer.Text() != producerstest.Say("later") || !asked[s.Job] {
					t.Fatalf("resumed %+v, %v", s, err)
				}
				delete(asked, s.Job)
			}
			if len(asked) != 0 || w.Runs() != jobs {
				t.Errorf("%d jobs were not resumed, %d runs", len(asked), w.Runs())
			}
			for range c.Resume(patience(t)) {
				t.Error("a job was resumed twice")
			}
			// What is done can be read from the record.
			for e, err := range c.Jobs(t.Context(), false) {
				if err != nil || e.State != producers.StateDone || e.Envelope != nil || e.Request != nil {
					t.Errorf("entry %+v, %v", e, err)
				}
				if s, err := c.Get(patience(t), e.ID); err != nil || s.Answer.Text() != producerstest.Say("later") {
					t.Errorf("Get = %+v, %v", s, err)
				}
			}
		})
	}
}

// TestSubmitFaults crosses the one external write of a submission with what can become of it, and then resumes: the job
// runs once, whatever the submitter was told.
func TestSubmitFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]streamstest.Fault{"lost": streamstest.Lost, "done but error": streamstest.DoneButError} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := producerstest.New(t)
			faults := &streamstest.Faults{}
			tenant, record := n.Net.Tenant(t), producers.NewMemoryRecord()
			faulty := streamstest.Connect(t, n.Server, streams.Config{URL: n.Server.URL(), Intercept: faults.Intercept})
			c, err := producers.New(faulty, producers.Options{Tenant: tenant, Trust: n.Trust(), Record: record})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(context.Background())
			job := producers.Job{Body: producerstest.Ask("x", ""), IdempotencyKey: "key"}
			// One failed try is repeated without anybody noticing.
			faults.Set(streamstest.First(streams.OpJob, fault))
			h, err := c.Submit(patience(t), job)
			if err != nil {
				t.Fatal(err)
			}
			// Every try fails: the submitter is told, and the job is not forgotten.
			job.IdempotencyKey = "another key"
			faults.Set(func(w streams.Write, _ int) streamstest.Fault {
				if w.Op == streams.OpJob {
					return fault
				}
				return streamstest.None
			})
			short, cancel := context.WithTimeout(patience(t), time.Second)
			defer cancel()
			if _, err := c.Submit(short, job); !errors.Is(err, schemas.KindUnavailable) || !schemas.Retriable(err) {
				t.Fatalf("Submit = %v, want KindUnavailable", err)
			}
			faults.Set(nil)
			w, _ := n.Work(t, producerstest.Echo)
			if a, err := h.Wait(patience(t)); err != nil || a.Text() != producerstest.Say("x") {
				t.Errorf("the first job: %+v, %v", a, err)
			}
			resumed := 0
			for s, err := range c.Resume(patience(t)) {
				if err != nil || s.Err != nil {
					t.Errorf("Resume = %+v, %v", s, err)
				}
				resumed++
			}
			if a, err := c.Do(patience(t), job); err != nil || a.Text() != producerstest.Say("x") {
				t.Errorf("the second job: %+v, %v", a, err)
			}
			if resumed != 1 || w.Runs() != 2 {
				t.Errorf("%d resumed, %d runs, want 1 and 2", resumed, w.Runs())
			}
		})
	}
}

// TestKeyLost loses the broker's keys while a job waits: it is sealed again by itself, and keeps its name.
func TestKeyLost(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	tenant := n.Net.Tenant(t)
	c := n.Client(t, producerstest.As(tenant))
	h, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("sealed twice", "")})
	if err != nil {
		t.Fatal(err)
	}
	ephemeral, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("sealed twice", ""), Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	n.LoseKeys(t)
	w, _ := n.Work(t, producerstest.Echo)
	for _, h := range []*producers.Handle{h, ephemeral} {
		a, err := h.Wait(patience(t))
		if err != nil || a.Text() != producerstest.Say("sealed twice") || a.Job == h.ID {
			t.Errorf("Wait = %+v, %v", a, err)
		}
	}
	if w.Runs() != 2 {
		t.Errorf("%d runs", w.Runs())
	}
	for name, client := range map[string]*producers.Client{"record": c, "another machine": n.Client(t, producerstest.As(tenant))} {
		s, err := client.Get(patience(t), h.ID)
		if err != nil || s.State != producers.StateDone || s.Answer == nil || s.Answer.Text() != producerstest.Say("sealed twice") {
			t.Errorf("%s: Get = %+v, %v", name, s, err)
		}
	}
}

// TestOutage stops the server for ten seconds: submissions wait and arrive, waits go on.
func TestOutage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	n := producerstest.New(t)
	n.Work(t, producerstest.Echo)
	c := n.Client(t)
	if _, err := c.Do(patience(t), producers.Job{Body: producerstest.Ask("before", "")}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		time.Sleep(time.Second)
		start := time.Now()
		a, err := c.Do(patience(t), producers.Job{Body: producerstest.Ask("during", "")})
		if err == nil && (a.Text() != producerstest.Say("during") || time.Since(start) < 5*time.Second) {
			err = errors.New("answered " + a.Text() + " in " + time.Since(start).String())
		}
		done <- err
	}()
	n.Restart(t, 10*time.Second)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := c.Do(patience(t), producers.Job{Body: producerstest.Ask("after", "")}); err != nil {
		t.Error(err)
	}
}

func TestBackPressure(t *testing.T) {
	t.Parallel()
	n := producerstest.NewWith(t, producerstest.Options{Topology: streams.Topology{TenantQueue: 10}})
	c := n.Client(t)
	for range 10 {
		if _, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("x", "")}); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	_, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("x", "")})
	if !errors.Is(err, schemas.KindBusy) || !schemas.Retriable(err) || time.Since(start) > 5*time.Second {
		t.Errorf("Submit to a full queue = %v after %v", err, time.Since(start))
	}
	open := 0
	for range c.Jobs(t.Context(), true) {
		open++
	}
	if open != 10 {
		t.Errorf("%d jobs are recorded, want the 10 that were taken", open)
	}
	small := n.Client(t, func(o *producers.Options) { o.MaxPending = 1 })
	if _, err := small.Submit(patience(t), producers.Job{Body: producerstest.Ask("x", "")}); err != nil {
		t.Fatal(err)
	}
	if _, err := small.Submit(patience(t), producers.Job{Body: producerstest.Ask("x", "")}); !errors.Is(err, schemas.KindBusy) {
		t.Errorf("Submit above MaxPending = %v, want KindBusy", err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Control(t)
	c := n.Client(t)
	// A job that waits costs nothing.
	h, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("waits", "")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cancel(patience(t), h.ID); err != nil {
		t.Fatal(err)
	}
	if a, err := h.Wait(patience(t)); !errors.Is(err, schemas.KindCancelled) || a != nil {
		t.Errorf("Wait = %+v, %v", a, err)
	}
	// A job that runs costs what it produced, and shows it.
	started := make(chan struct{})
	n.Work(t, func(ctx context.Context, _ *schemas.Request, _ func([]byte)) schemas.Result {
		close(started)
		<-ctx.Done()
		return producerstest.Chat("tiny", "half an ans")
	})
	h, err = c.Submit(patience(t), producers.Job{Body: producerstest.Ask("runs", "")})
	if err != nil {
		t.Fatal(err)
	}
	<-started
	if state, err := c.Cancel(patience(t), h.ID); err != nil || state != streams.CancelStopping {
		t.Errorf("Cancel = %v, %v", state, err)
	}
	a, err := h.Wait(patience(t))
	if !errors.Is(err, schemas.KindCancelled) || a == nil || a.Charge.Total == 0 || a.Text() != "half an ans" || a.Receipt == "" {
		t.Errorf("Wait = %+v, %v", a, err)
	}
	if state, err := c.Cancel(patience(t), h.ID); err != nil || state != streams.CancelTooLate {
		t.Errorf("Cancel of a job that ended = %v, %v", state, err)
	}
}

func TestCloseEndsWaits(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	c := n.Client(t)
	h, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("x", "")})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { c.Close(context.Background()) })
	if _, err := h.Wait(patience(t)); !errors.Is(err, schemas.KindUnavailable) {
		t.Errorf("Wait = %v, want KindUnavailable", err)
	}
	if _, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("x", "")}); !errors.Is(err, schemas.KindUnavailable) {
		t.Errorf("Submit after Close = %v, want KindUnavailable", err)
	}
}

func TestGetAndWatchElsewhere(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	tenant := n.Net.Tenant(t)
	c := n.Client(t, producerstest.As(tenant))
	h, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("x", "")})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := n.Client(t, producerstest.As(tenant))
	if _, err := elsewhere.Get(patience(t), h.ID); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("Get of a job without an outcome = %v, want KindNotFound", err)
	}
	if s, err := c.Get(patience(t), h.ID); err != nil || s.State != producers.StatePublished {
		t.Errorf("Get = %+v, %v", s, err)
	}
	go n.Work(t, producerstest.Echo)
	if a, err := elsewhere.Watch(patience(t), h.ID); err != nil || a.Text() != producerstest.Say("x") {
		t.Errorf("Watch = %+v, %v", a, err)
	}
	// A stranger with the id gets nothing: the result is sealed to the tenant, and the outcome lies under its name.
	if _, err := n.Client(t).Get(patience(t), h.ID); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("another tenant's Get = %v, want KindNotFound", err)
	}
}

// TestForgedOutcomes has the operator invent outcomes: none becomes an answer.
func TestForgedOutcomes(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	w, stop := n.Work(t, producerstest.Echo)
	tenant := n.Net.Tenant(t)
	c := n.Client(t, producerstest.As(tenant))
	real, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("real", "")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := real.Wait(patience(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	good, err := n.Bus.Outcome(patience(t), tenant.ID(), real.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(o *schemas.Outcome){
		"another job's outcome": func(*schemas.Outcome) {},
		"flipped body":          func(o *schemas.Outcome) { o.Body = append([]byte(nil), o.Body...); o.Body[len(o.Body)-1] ^= 1 },
		"no grant":              func(o *schemas.Outcome) { o.Grant, o.Receipt = "x.y.z", "x.y.z" },
	} {
		h, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask(name, "")})
		if err != nil {
			t.Fatal(err)
		}
		forged := good
		forged.Job = h.ID
		forge(&forged)
		if _, err := n.Bus.PublishOutcome(patience(t), forged); err != nil {
			t.Fatal(err)
		}
		if a, err := h.Wait(patience(t)); err == nil || a != nil {
			t.Errorf("%s: Wait = %+v, %v", name, a, err)
		}
	}
	_ = w
}

func TestTrustIsVerifiedFirst(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	stranger, err := schemas.NewRootKeys(1, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*producers.Options){
		"other root keys":   func(o *producers.Options) { o.Trust.Roots = stranger },
		"other environment": func(o *producers.Options) { o.Trust.Environment = schemas.Production },
	} {
		c := n.Client(t, change)
		if _, err := c.Submit(patience(t), producers.Job{Body: producerstest.Ask("x", "")}); !errors.Is(err, schemas.KindPolicy) {
			t.Errorf("%s: Submit = %v, want KindPolicy", name, err)
		}
	}
	c := n.Client(t)
	key, err := c.Trust(patience(t), producerstest.ModelName)
	if err != nil || key.Admission().Environment != schemas.Simulated || c.Environment() != schemas.Simulated || !key.GoodUntil().After(time.Now()) {
		t.Errorf("Trust = %+v, %v", key, err)
	}
	// A key that somebody else put into the bucket is refused.
	other := producerstest.New(t)
	published, err := other.Net.Broker.Key(t.Context(), producerstest.Model)
	if err != nil {
		t.Fatal(err)
	}
	n.Put(t, streams.BucketKeys, n.Catalogue.Models[0].Slug, published[:len(published)-2])
	if _, err := n.Client(t).Trust(patience(t), producerstest.ModelName); err == nil {
		t.Error("a torn key was trusted")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	tenant, err := enclave.NewTenant()
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]producers.Options{
		"no tenant":   {Trust: n.Trust()},
		"no trust":    {Tenant: tenant},
		"impatient":   {Tenant: tenant, Trust: n.Trust(), PublishWait: time.Second},
		"zero values": {},
	} {
		if _, err := producers.New(n.Bus, o); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%s: New = %v, want KindInvalid", name, err)
		}
	}
}
