package dashboard

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Config says what a dashboard looks at.
type Config struct {
	// Bus is the network. Required.
	Bus *streams.Bus
	// Trust verifies the signed documents that are shown. Required.
	Trust schemas.Trust
	// Money is the books; nil on a machine without settlement.
	Money MoneySource
	// Token allows the actions to whoever sends it as a bearer token; empty makes the dashboard read-only. At least
	// MinToken bytes.
	Token string
	// Now is the clock. nil is time.Now.
	Now func() time.Time
	// Log hears about sources that cannot be read. nil discards.
	Log *slog.Logger
}

// MinToken is the shortest operator token in bytes.
const MinToken = 16

// Dashboard looks at a network and serves what it sees. Make one with New.
type Dashboard struct {
	conf      Config
	catalogue *schemas.Catalogue // the last verified one; used by Run only
	view      View               // owned by Run
	started   time.Time

	// mu guards what the outcome feed and the event streams share with Run.
	mu          sync.Mutex
	jobs        []JobRow // oldest first
	recent      []served
	served      uint64
	tokens      uint64
	feedProblem string
	feedSince   time.Time
	sections    map[string]section
	changed     chan struct{} // closed and replaced when a section changes
}

// served is one finished job, for the rates.
type served struct {
	at     time.Time
	tokens uint64
}

// section is the encoded form of one section and how often it has changed.
type section struct {
	json     []byte
	revision uint64
}

// New makes a dashboard; Run starts it.
func New(c Config) (*Dashboard, error) {
	if c.Bus == nil {
		return nil, schemas.FieldError("Bus", "is required")
	}
	if err := c.Trust.Check(); err != nil {
		return nil, err
	}
	if c.Token != "" && len(c.Token) < MinToken {
		return nil, schemas.FieldError("Token", "must have at least 16 bytes")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	d := &Dashboard{conf: c, started: c.Now(), sections: map[string]section{}, changed: make(chan struct{})}
	d.view.Network.Models = []ModelRow{}
	d.view.Workers.Workers = []WorkerRow{}
	d.view.Jobs.Jobs = []JobRow{}
	d.view.Dead.Letters = []streams.DeadLetter{}
	d.view.Money = Money{Absent: c.Money == nil, Owners: []OwnerRow{}, Batches: []BatchRow{}, Alerts: []string{}}
	d.view.Trust = Trust{Environment: c.Trust.Environment, Roots: c.Trust.Roots.Hash(), Measurements: []MeasurementRow{}, Keys: []KeyRow{}}
	d.publish()
	return d, nil
}

// Run looks at the network until ctx ends. It returns nil then; a source that fails is shown, not returned.
func (d *Dashboard) Run(ctx context.Context) error {
	var following sync.WaitGroup
	following.Go(func() { d.follow(ctx) })
	defer following.Wait()
	var trust, money, dead, point time.Time // when each is due next
	for ctx.Err() == nil {
		now := d.conf.Now()
		if due(&trust, now, trustEvery) {
			t, err := d.readTrust(ctx, now)
			keep(&d.view.Trust, &d.view.Trust.Freshness, t, err, now)
		}
		d.look(ctx, now)
		if due(&dead, now, deadEvery) {
			letters, err := d.readDead(ctx)
			keep(&d.view.Dead, &d.view.Dead.Freshness, letters, err, now)
		}
		if d.conf.Money != nil && due(&money, now, moneyEvery) {
			m, err := d.readMoney(ctx)
			keep(&d.view.Money, &d.view.Money.Freshness, m, err, now)
		}
		if due(&point, now, HistoryStep) {
			d.point(now)
		}
		d.publish()
		wait(ctx, lookEvery)
	}
	return nil
}

// readMoney asks settlement.
func (d *Dashboard) readMoney(ctx context.Context) (Money, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return d.conf.Money.Money(ctx)
}

// due reports whether at has come and moves it on.
func due(at *time.Time, now time.Time, every time.Duration) bool {
	if now.Before(*at) {
		return false
	}
	*at = now.Add(every)
	return true
}

// publish encodes the sections and wakes the event streams when one has changed.
func (d *Dashboard) publish() {
	encoded := map[string][]byte{}
	for name, v := range map[string]any{
		"network": d.view.Network, "workers": d.view.Workers, "jobs": d.view.Jobs, "dead": d.view.Dead,
		"money": d.view.Money, "trust": d.view.Trust, "history": d.view.History,
	} {
		b, err := json.Marshal(v)
		if err != nil { // cannot happen: the view holds no type that refuses to be encoded
			d.conf.Log.Error("encode section", "section", name, "error", err)
			continue
		}
		encoded[name] = b
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	woke := false
	for name, b := range encoded {
		if s := d.sections[name]; string(s.json) != string(b) {
			d.sections[name] = section{b, s.revision + 1}
			woke = true
		}
	}
	if woke {
		close(d.changed)
		d.changed = make(chan struct{})
	}
}

// since returns the sections that have changed since the given revisions, and a channel that closes at the next change.
func (d *Dashboard) since(revisions map[string]uint64) (map[string]section, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := map[string]section{}
	for name, s := range d.sections {
		if s.revision != revisions[name] {
			fresh[name] = s
		}
	}
	return fresh, d.changed
}
