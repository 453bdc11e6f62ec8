package consumers_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
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
	node                                                    *streamstest.Node
	crashes, processes, freezes, drains, faults, runs, cuts atomic.Int64

	// span is how many jobs a worker sees, on average, before it dies. Were it not far above a worker's slots, some jobs would be
	// unlucky so often that their deliveries run out.
	span int

	mu  sync.Mutex // guards rng
	rng *rand.Rand
	up  sync.RWMutex // held for writing while the server is down
}

// cut kills the server with SIGKILL and starts it again on its folder and port.
func (c *chaos) cut() {
	c.up.Lock()
	defer c.up.Unlock()
	c.node.Kill()
	time.Sleep(time.Duration(c.roll(500)) * time.Millisecond) // everybody notices
	c.node.Start()
	c.cuts.Add(1)
	c.eventually("the server answers again", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return c.bus.Flush(ctx) == nil
	})
}

// control runs a control service until the test ends.
func (c *chaos) control() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	ended := make(chan error, 1)
	bus := c.connect(streams.Config{})
	go func() { ended <- control.New(bus, control.Options{}).Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("control: %v", err)
		}
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

// points are the places where a worker may die.
var points = []consumers.Point{
	consumers.PointTaken, consumers.PointGranted, consumers.PointRunning, consumers.PointAnswered, consumers.PointPublished,
}

// processLife is the life of a worker that is a process of its own: it ends with SIGKILL.
func (c *chaos) processLife(over context.Context) {
	p := c.process(shift{
		Slots: 8, Took: time.Duration(c.roll(60)) * time.Millisecond, Stop: points[c.roll(len(points))], Luck: int64(5 + c.roll(2*c.span)),
	})
	defer p.kill()
	for {
		select {
		case line, alive := <-p.said:
			switch {
			case !alive:
				if over.Err() == nil {
					c.t.Error("a worker process ended by itself")
				}
				return
			case strings.HasPrefix(line, string(consumers.PointRunning)):
				c.runs.Add(1)
			}
			if strings.HasSuffix(line, " true") {
				c.crashes.Add(1)
				c.processes.Add(1)
				return
			}
		case <-over.Done():
			return
		}
	}
}

// life runs one worker from its start to its death, or to the end of the shift.
func (c *chaos) life(shift context.Context) {
	if c.roll(4) == 0 {
		c.processLife(shift)
		return
	}
	engine := stub.New(stub.Options{Slots: 8, Took: time.Duration(c.roll(60)) * time.Millisecond, Chunks: 5, Script: func(*consumers.Request) stub.Act {
		c.runs.Add(1)
		return stub.Act{}
	}})
	c.up.RLock()
	w := c.prepare(engine, func(k *consumers.Config, s *streams.Config) {
		k.DrainTimeout = 500 * time.Millisecond
		s.Intercept = (&streamstest.Faults{Decide: c.decide}).Intercept
	})
	c.up.RUnlock()
	fate, luck, at := c.roll(10), int64(5+c.roll(2*c.span)), points[c.roll(len(points))]
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

// stuck tells what the queues are like when nothing moves any more.
func (c *chaos) stuck() {
	c.t.Helper()
	ctx := streamstest.Context(c.t)
	queues, err := c.bus.Queues(ctx, c.route.Shard)
	if err != nil {
		c.t.Error(err)
	}
	for _, q := range queues {
		c.t.Logf("%+v", q)
	}
	err = c.bus.ScanQueued(ctx, c.route.Shard, "", 1, func(j streams.Queued) (bool, error) {
		_, err := c.bus.Outcome(ctx, j.Tenant, j.Attributes.ID)
		c.t.Logf("job %s at %d of class %s, stored %v ago, its outcome: %v", j.Attributes.ID, j.Ack.Seq, j.Queue.Class, time.Since(j.Stored), err)
		return true, nil
	})
	c.t.Fatalf("nothing moves for %v, %d crashes, %d cuts (%v)", patience, c.crashes.Load(), c.cuts.Load(), err)
}

// TestChaos: workers crash at every point, as processes too, freeze past their leases and drain, one write in fifty fails, and
// the server is killed; in the end every job has exactly one outcome, which its tenant can open, and the queue is empty.
func TestChaos(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	jobs, kills := chaosSize(t, "JOBS", 400), chaosSize(t, "KILLS", 4)
	seed := uint64(chaosSize(t, "SEED", 1))
	c := &chaos{rng: rand.New(rand.NewPCG(seed, seed)), span: max(jobs/kills/2, 30)}
	c.bundle, c.node = setupProcess(t)
	c.control()
	c.control()
	// Nobody settles here: every job goes on holding its budget.
	c.net.Credit.Set(c.tenant.ID(), schemas.Credit{
		V: 1, Available: schemas.NanoTON(2*jobs+10_000) * enclavetest.Budget, Key: c.tenant.Public(), Updated: time.Now().UTC().Truncate(time.Second),
	})
	more := func(n int) []enclave.SealedJob {
		return c.submit(n, func(a *schemas.Attributes) {
			a.Attempts, a.Class = schemas.MaxAttempts, schemas.Classes()[c.roll(3)]
			a.Time = time.Now().UTC().Truncate(time.Second)
			a.Expiry = a.Time.Add(12 * time.Hour)
		})
	}
	var sealed []enclave.SealedJob
	for len(sealed) < jobs {
		sealed = append(sealed, more(min(1000, jobs-len(sealed)))...)
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
	began, cuts := time.Now(), int64(1+jobs/5000)
	moved, left := time.Now(), c.queued()
	for c.queued() > 0 || c.crashes.Load() < int64(kills) || c.cuts.Load() < cuts {
		if c.crashes.Load()*(cuts+1) >= (c.cuts.Load()+1)*int64(kills) && c.cuts.Load() < cuts {
			c.cut()
		}
		if c.queued() == 0 { // too quick: more work, so that all deaths happen
			sealed = append(sealed, more(100)...)
		}
		if now := c.queued(); now != left {
			moved, left = time.Now(), now
		}
		if time.Since(moved) > patience {
			c.stuck()
		}
		time.Sleep(50 * time.Millisecond)
	}
	over()
	fleet.Wait()
	c.oneOutcomeEach(sealed)
	t.Logf("seed %d: %d jobs, %d runs (%.2f %% twice), %d crashes (%d of them kill -9 of a process), %d freezes, %d drains, "+
		"%d kill -9 of the server, %d failed writes, %v",
		seed, len(sealed), c.runs.Load(), 100*float64(c.runs.Load()-int64(len(sealed)))/float64(len(sealed)),
		c.crashes.Load(), c.processes.Load(), c.freezes.Load(), c.drains.Load(), c.cuts.Load(), c.faults.Load(), time.Since(began).Round(time.Second))
}
