package openai

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Engine is a model of a server.
type Engine struct {
	o      Options
	client *client
	salt   []byte // keeps the tenants' prefixes apart, and their names from the server
	grown  chan struct{}

	stop    context.CancelFunc
	base    context.Context
	stopped chan struct{}

	mu       sync.Mutex // guards the rest
	info     consumers.Info
	known    bool // info was asked for since the server came up
	flavour  flavour
	control  limiter
	load     load // last look at the metrics
	healthy  bool
	at       time.Time
	inflight int
	draining bool
	idle     chan struct{} // closed when draining and nothing is in flight
}

var _ consumers.Engine = (*Engine)(nil)

// New makes an engine of a server, which need not be up yet: until it is, Capacity says that it is not healthy.
func New(o Options) (*Engine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		o: o, client: newClient(&o), salt: make([]byte, 32), grown: make(chan struct{}, 1), stopped: make(chan struct{}),
		flavour: flavourNamed(o.Flavour), control: newLimiter(o.Slots), load: unknownLoad(), idle: make(chan struct{}),
	}
	_, _ = rand.Read(e.salt) // never fails
	e.base, e.stop = context.WithCancel(context.Background())
	go e.watch()
	return e, nil
}

// watch looks at the server until Close.
func (e *Engine) watch() {
	defer close(e.stopped)
	for {
		e.look()
		pause := e.o.Poll
		if !e.up() {
			pause = min(pause, downPoll)
		}
		select {
		case <-time.After(pause):
		case <-e.base.Done():
			return
		}
	}
}

// downPoll is the time between looks at a server that is not up.
const downPoll = 200 * time.Millisecond

// up reports whether the server answered the last time.
func (e *Engine) up() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.healthy
}

// seen is when the server was healthy the last time.
func (e *Engine) seen() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

// down notes that the server is known to be gone.
func (e *Engine) down() {
	e.mu.Lock()
	e.healthy, e.known = false, false
	e.mu.Unlock()
}

// look asks for health, description and metrics.
func (e *Engine) look() {
	ctx, cancel := context.WithTimeout(e.base, e.o.PollTimeout)
	defer cancel()
	if err := e.alive(ctx); err != nil {
		e.mu.Lock()
		was := e.healthy
		e.healthy, e.known = false, false
		e.mu.Unlock()
		if was && e.base.Err() == nil {
			e.o.Log.Warn("the model server does not answer", "url", e.o.URL, "err", err)
		}
		return
	}
	if _, err := e.Info(ctx); err != nil {
		return // up, but not ready to say what it has
	}
	l := e.scrape(ctx)
	e.mu.Lock()
	came := !e.healthy
	e.healthy, e.at = true, time.Now()
	e.control.observe(e.load, l, e.inflight)
	grew := came || l.waiting == 0
	e.load = l
	e.mu.Unlock()
	if grew {
		e.signal()
	}
}

// alive asks for the health. A server without /health is judged by its list of models.
func (e *Engine) alive(ctx context.Context) error {
	resp, err := e.client.do(ctx, "GET", "/health", "", nil, nil)
	if schemas.KindOf(err) == schemas.KindUnsupported {
		resp, err = e.client.do(ctx, "GET", "/v1/models", "", nil, nil)
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// signal tells the watcher.
func (e *Engine) signal() {
	select {
	case e.grown <- struct{}{}:
	default:
	}
}

// Watch implements consumers.Engine.
func (e *Engine) Watch() <-chan struct{} { return e.grown }

// Capacity implements consumers.Engine.
func (e *Engine) Capacity() consumers.Capacity {
	e.mu.Lock()
	defer e.mu.Unlock()
	limit := e.control.limit()
	c := consumers.Capacity{
		Running: e.inflight, Waiting: e.load.waiting, Slots: limit, KVUsed: consumers.Unknown, KVTotal: consumers.Unknown,
		Free: max(0, limit-e.inflight), FreeTokens: consumers.Unknown, Draining: e.draining, Healthy: e.healthy, At: e.at,
	}
	if e.load.total > 0 && e.load.memory >= 0 {
		c.KVTotal, c.KVUsed = e.load.total, int64(e.load.memory*float64(e.load.total))
		c.FreeTokens = max(0, c.KVTotal-c.KVUsed)
	}
	if c.Draining || !c.Healthy {
		c.Free, c.FreeTokens = 0, 0
	}
	return c
}

// enter counts a request in, if it may run.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.draining || e.base.Err() != nil:
		return &schemas.Error{Kind: schemas.KindUnavailable, Message: "the engine is draining"}
	case e.inflight >= e.o.Slots:
		return &schemas.Error{Kind: schemas.KindBusy, Message: "as many requests are in flight as may be"}
	}
	e.inflight++
	return nil
}

// leave counts a request out, with how it ended.
func (e *Engine) leave(err error) {
	e.mu.Lock()
	e.inflight--
	if r := (*Refused)(nil); errors.As(err, &r) && (r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable) {
		e.control.refused()
	}
	if e.draining && e.inflight == 0 {
		e.finishDrain()
	}
	e.mu.Unlock()
	e.signal()
}

// finishDrain lets Drain return. The lock is held.
func (e *Engine) finishDrain() {
	select {
	case <-e.idle:
	default:
		close(e.idle)
	}
}

// Drain implements consumers.Engine. It only concerns requests through this engine; the server goes on.
func (e *Engine) Drain(ctx context.Context) error {
	e.mu.Lock()
	e.draining = true
	if e.inflight == 0 {
		e.finishDrain()
	}
	e.mu.Unlock()
	select {
	case <-e.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements consumers.Engine.
func (e *Engine) Close() error {
	e.stop() // ends all requests
	<-e.stopped
	e.client.http.CloseIdleConnections()
	return nil
}

// scope is the name of a tenant towards a server that is not ours.
func (e *Engine) scope(tenant schemas.TenantID) string {
	if tenant == "" {
		return rand.Text()
	}
	h := hmac.New(sha256.New, e.salt)
	h.Write([]byte(tenant))
	return hex.EncodeToString(h.Sum(nil))
}
