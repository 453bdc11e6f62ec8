package consumers_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// chaosSize is a number from the environment, or the small default that runs with every test:
// COCOON_CHAOS_JOBS=20000 COCOON_CHAOS_KILLS=100 go test ./consumers -run Chaos -timeout 1h -v
func chaosSize(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv("COCOON_CHAOS_" + name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("COCOON_CHAOS_%s=%q", name, s)
	}
	return n
}

// chaos is a fleet whose workers live dangerously.
type chaos struct {
	*bundle
	crashes, freezes, drains, faults, runs, restarts atomic.Int64
	dir, url                                         string

	mu  sync.Mutex // guards rng
	rng *rand.Rand
	up  sync.RWMutex // held for writing while the server is down
}

// restart stops the server and starts it again on its folder and port.
func (c *chaos) restart() {
	c.up.Lock()
	defer c.up.Unlock()
	at, err := url.Parse(c.url)
	if err != nil {
		c.t.Fatal(err)
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		c.t.Fatal(err)
	}
	c.server.Close()
	time.Sleep(300 * time.Millisecond)
	c.server = streamstest.Server(c.t, embedded.Options{Dir: c.dir, Port: port})
	c.restarts.Add(1)
	c.eventually("the server answers again", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return c.bus.Flush(ctx) == nil
	})
}

// roll is a number below n.
func (c *chaos) roll(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

// decide makes one write in fifty fail, half of them after they were carried out.
func (c *chaos) decide(streams.Write, int) streamstest.Fault {
	switch c.roll(100) {
	case 0:
		c.faults.Add(1)
		return streamstest.Lost
	case 1:
		c.faults.Add(1)
		return streamstest.DoneButError
	}
	return streamstest.None
}

// life runs one worker from its start to its death, or to the end of the shift.
func (c *chaos) life(shift context.Context) {
	engine := stub.New(stub.Options{Slots: 8, Took: time.Duration(c.roll(60)) * time.Millisecond, Chunks: 5, Script: func(*consumers.Request) stub.Act {
		c.runs.Add(1)
		return stub.Act{}
	}})
	c.up.RLock()
	w := c.prepare(engine, func(k *consumers.Config, s *streams.Config) {
		k.DrainTimeout = 500 * time.Millisecond
		s.Intercept, s.URL = (&streamstest.Faults{Decide: c.decide}).Intercept, c.url
	})
	c.up.RUnlock()
	fate, luck := c.roll(10), int64(5+c.roll(60))
	at := []consumers.Point{
		consumers.PointTaken, consumers.PointGranted, consumers.PointRunning, consumers.PointAnswered, consumers.PointPublished,
	}[c.roll(5)]
	var seen atomic.Int64
	doomed := make(chan struct{})
	var once sync.Once
	w.SetProbe(func(p consumers.Point, _ schemas.JobID, _ int) {
		if p != at || seen.Add(1) != luck {
			return
		}
		if fate < 6 {
			c.crashes.Add(1)
			w.crash()
		}
		once.Do(func() { close(doomed) })
	})
	w.start()
	select {
	case <-doomed:
	case <-w.done:
	case <-shift.Done():
	}
	switch {
	case fate >= 8 && shift.Err() == nil:
		c.freezes.Add(1)
		thaw := w.Freeze()
		time.Sleep(queueLease + time.Duration(c.roll(3000))*time.Millisecond)
		thaw()
		time.Sleep(100 * time.Millisecond)
	case fate >= 6:
		c.drains.Add(1)
	}
	w.end()
}

// TestChaos: workers crash at every point, freeze past their leases and drain, one write in fifty fails, and the server
// restarts; in the end every job has exactly one outcome, which its tenant can open, and the queue is empty.
func TestChaos(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	jobs, kills := chaosSize(t, "JOBS", 400), chaosSize(t, "KILLS", 4)
	seed := uint64(chaosSize(t, "SEED", 1))
	dir := t.TempDir()
	c := &chaos{bundle: setupOn(t, streamstest.Options{TCP: true, Dir: dir}), dir: dir, rng: rand.New(rand.NewPCG(seed, seed))}
	c.url = c.server.URL()
	var sealed []enclave.SealedJob
	for len(sealed) < jobs {
		sealed = append(sealed, c.submit(min(1000, jobs-len(sealed)), func(a *schemas.Attributes) {
			a.Attempts, a.Class = schemas.MaxAttempts, schemas.Classes()[c.roll(3)]
			a.Expiry = time.Now().UTC().Add(12 * time.Hour).Truncate(time.Second)
			a.Time = time.Now().UTC().Truncate(time.Second)
		})...)
	}
	shift, over := context.WithCancel(t.Context())
	var fleet sync.WaitGroup
	for range 4 {
		fleet.Go(func() {
			for shift.Err() == nil {
				c.life(shift)
			}
		})
	}
	began, restarts := time.Now(), int64(1+jobs/5000)
	for c.queued() > 0 || c.crashes.Load() < int64(kills) || c.restarts.Load() < restarts {
		if c.crashes.Load()*(restarts+1) >= (c.restarts.Load()+1)*int64(kills) && c.restarts.Load() < restarts {
			c.restart()
		}
		if c.queued() == 0 { // too quick: more work, so that all deaths happen
			sealed = append(sealed, c.submit(100, func(a *schemas.Attributes) { a.Attempts = schemas.MaxAttempts })...)
		}
		if time.Since(began) > 50*time.Minute {
			t.Fatal("does not end")
		}
		time.Sleep(50 * time.Millisecond)
	}
	over()
	fleet.Wait()
	c.check(sealed)
	t.Logf("seed %d: %d jobs, %d runs (%.2f %% twice), %d crashes, %d freezes, %d drains, %d restarts of the server, %d failed writes, %v",
		seed, len(sealed), c.runs.Load(), 100*float64(c.runs.Load()-int64(len(sealed)))/float64(len(sealed)),
		c.crashes.Load(), c.freezes.Load(), c.drains.Load(), c.restarts.Load(), c.faults.Load(), time.Since(began).Round(time.Second))
}

// check demands one good outcome for every job, and no other.
func (c *chaos) check(jobs []enclave.SealedJob) {
	c.t.Helper()
	if n := c.messages(streams.StreamOutcomes); n != uint64(len(jobs)) {
		c.t.Errorf("%d outcomes for %d jobs", n, len(jobs))
	}
	lost := 0
	for _, j := range jobs {
		o, err := c.bus.Outcome(streamstest.Context(c.t), j.Attributes.Tenant, j.Attributes.ID)
		if errors.Is(err, schemas.KindNotFound) {
			lost++
			continue
		}
		if err != nil {
			c.t.Fatal(err)
		}
		a, err := c.tenant.OpenResult(o, enclave.Expect{Job: j.Attributes.ID, Envelope: j.Hash, Broker: c.net.Broker.Public()})
		if err != nil {
			c.t.Errorf("job %s: %v", j.Attributes.ID, err)
		} else if err := a.Result.Err(); err != nil {
			c.t.Errorf("job %s at attempt %d: %v", j.Attributes.ID, a.Grant.Attempt, err)
		}
	}
	if lost > 0 {
		c.t.Errorf("%d jobs lost", lost)
	}
}
