package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a host whose news and workers are the test's.
type bundle struct {
	host *Host
	end  context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	news     News
	err      error
	fail     error         // new workers fail with this
	drain    time.Duration // of a stopped worker
	running  int           // workers whose Start has not returned
	launches []time.Duration
	began    time.Time
}

const slug = "m1"

func (b *bundle) look(context.Context) (News, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.news, b.err
}

func (b *bundle) start(ctx context.Context, _ schemas.ModelID, _ int) error {
	b.mu.Lock()
	b.running++
	b.launches = append(b.launches, time.Since(b.began))
	fail, drain := b.fail, b.drain
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.running--
		b.mu.Unlock()
	}()
	if fail != nil {
		return fail
	}
	<-ctx.Done()
	time.Sleep(drain)
	return nil
}

func (b *bundle) load(waiting int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.news.Load = map[string]Load{slug: {Waiting: waiting}}
}

func (b *bundle) alive() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running
}

// setup runs a host inside a bubble.
func setup(t *testing.T, change func(*bundle, *Config)) *bundle {
	t.Helper()
	b := &bundle{done: make(chan struct{}), began: time.Now()}
	c := Config{
		Models: []Model{{ID: "m@1:x", Route: streams.Route{Slug: slug}, Slots: 4, Default: streams.FleetModel{Max: 3}}},
		Look:   b.look, Start: b.start, Every: time.Second,
		Pace: Pace{Up: 2, Down: time.Minute, Idle: 5 * time.Minute},
	}
	if change != nil {
		change(b, &c)
	}
	var err error
	if b.host, err = New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.end = cancel
	go func() {
		defer close(b.done)
		b.host.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-b.done
	})
	return b
}

// after lets time pass and checks the number of workers.
func (b *bundle) after(t *testing.T, d time.Duration, want int) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if got := b.alive(); got != want {
		t.Fatalf("at %v: %d workers run, want %d", time.Since(b.began), got, want)
	}
}

func TestHostFollowsBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil)
		b.after(t, 10*time.Second, 0)
		b.load(9)
		b.after(t, 3*time.Second, 3)
		b.load(0)
		b.after(t, 30*time.Second, 3)
		b.after(t, 40*time.Second, 2)
		b.after(t, time.Minute, 1)
		b.after(t, 4*time.Minute, 1)
		b.after(t, 2*time.Minute, 0)
		b.load(1)
		b.after(t, 2*time.Second, 1)
	})
}

func TestHostObeysBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil)
		b.load(100)
		b.after(t, 5*time.Second, 3)
		b.mu.Lock()
		b.news.Bounds = map[string]streams.FleetModel{slug: {Min: 0, Max: 1}}
		b.mu.Unlock()
		b.after(t, 2*time.Second, 1)
		b.mu.Lock()
		b.news.Bounds = map[string]streams.FleetModel{slug: {Min: 2, Max: 5}}
		b.news.Load = nil
		b.mu.Unlock()
		b.after(t, 2*time.Second, 2)
		b.after(t, time.Hour, 2)
	})
}

// TestHostWithoutNews: when control is away nothing is started and nothing stopped.
func TestHostWithoutNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil)
		b.load(9)
		b.after(t, 3*time.Second, 3)
		b.mu.Lock()
		b.news, b.err = News{}, errors.New("no control")
		b.mu.Unlock()
		b.after(t, time.Hour, 3)
	})
}

// TestHostRestartsWithPatience: a worker that fails at once is not started in a tight loop.
func TestHostRestartsWithPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, c *Config) {
			b.fail = errors.New("no GPU")
			c.Models[0].Default = streams.FleetModel{Min: 1, Max: 1}
		})
		time.Sleep(10 * time.Minute)
		b.mu.Lock()
		defer b.mu.Unlock()
		if n := len(b.launches); n < 8 || n > 20 {
			t.Errorf("%d starts in 10 minutes: %v", n, b.launches)
		}
		if !slices.IsSorted(b.launches) {
			t.Errorf("starts out of order: %v", b.launches)
		}
	})
}

// TestHostWaitsForDrain: Run returns only when every worker has ended.
func TestHostWaitsForDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, c *Config) {
			b.drain = time.Minute
			c.Models[0].Default = streams.FleetModel{Min: 3, Max: 3}
		})
		b.after(t, 2*time.Second, 3)
		b.end()
		select {
		case <-b.done:
			t.Fatal("returned while workers drain")
		case <-time.After(59 * time.Second):
		}
		<-b.done
		if b.alive() != 0 {
			t.Errorf("%d workers left", b.alive())
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	look, start := Look(func(context.Context) (News, error) { return News{}, nil }), func(context.Context, schemas.ModelID, int) error { return nil }
	for name, c := range map[string]Config{
		"no models": {Look: look, Start: start},
		"no start":  {Look: look, Models: []Model{{Route: streams.Route{Slug: "m"}}}},
		"bad slug":  {Look: look, Start: start, Models: []Model{{Route: streams.Route{Slug: "a.b"}}}},
	} {
		if _, err := New(c); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
