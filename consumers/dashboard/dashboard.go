package dashboard

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
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
	// Batches is the gateway beside this dashboard; nil where there is none.
	Batches BatchSource
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
	conf    Config
	store   *store
	fleet   *fleet
	prices  atomic.Pointer[schemas.Catalogue] // the catalogue in force, for the outcome feed
	started time.Time
	uptime  uptime
	version string // of the page's files

	// publicNetwork and publicMoney are what the status page shows; they are replaced, never changed.
	publicNetwork atomic.Pointer[Network]
	publicMoney   atomic.Pointer[Money]

	// The fields below are used by Run only.
	catalogue *schemas.Catalogue // the last verified one
	view      View
	oldestAt  map[streams.Queue]time.Time
	deadState streams.DeadState
	lost      time.Time // since when the connection is lost

	// mu guards what the feeds of jobs share with Run.
	mu   sync.Mutex
	jobs jobBook
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
	d := &Dashboard{conf: c, started: c.Now().UTC(), store: newStore(), fleet: newFleet(), oldestAt: map[streams.Queue]time.Time{}}
	d.jobs.arrived, d.jobs.bulk = map[schemas.JobID]JobRow{}, map[bulkKey]*bulk{}
	d.view.Money = Money{Absent: c.Money == nil, Owners: []OwnerRow{}, Batches: []PayoutRow{}, Alerts: []string{}}
	d.view.Trust = Trust{
		Environment: c.Trust.Environment, Roots: c.Trust.Roots.Hash(),
		Measurements: []MeasurementRow{}, Keys: []KeyRow{}, Brokers: []BrokerRow{}, Rules: []RuleRow{},
	}
	d.version = assetsVersion()
	d.putMoney()
	d.put(secTrust, d.view.Trust, nil)
	d.put(secBatches, Batches{Local: c.Batches != nil}, nil)
	return d, nil
}

// Run looks at the network until ctx ends. It returns nil then; a source that fails is shown, not returned.
func (d *Dashboard) Run(ctx context.Context) error {
	var following sync.WaitGroup
	following.Go(func() { d.follow(ctx) })
	following.Go(func() { d.hearArrivals(ctx) })
	following.Go(func() { d.followBucket(ctx, streams.BucketWorkers, streams.PrefixWorker+"*") })
	following.Go(func() { d.readReputations(ctx) })
	following.Go(func() { d.followBucket(ctx, streams.BucketEvidence, ">") })
	defer following.Wait()
	var trust, money, dead, batches, point time.Time // when each is due next
	for ctx.Err() == nil {
		now := d.conf.Now()
		if due(&trust, now, trustEvery) {
			t, err := d.readTrust(ctx, now)
			keep(&d.view.Trust, &d.view.Trust.Freshness, t, err, now)
			d.put(secTrust, d.view.Trust, nil)
		}
		if due(&dead, now, deadEvery) {
			letters, err := d.readDead(ctx)
			keep(&d.view.Dead, &d.view.Dead.Freshness, letters, err, now)
			d.putDead()
		}
		d.look(ctx, now)
		if due(&batches, now, batchesEvery) {
			b, err := d.readBatches(ctx, now)
			keep(&d.view.Batches, &d.view.Batches.Freshness, b, err, now)
			d.putBatches()
		}
		if d.conf.Money != nil && due(&money, now, moneyEvery) {
			m, err := d.readMoney(ctx)
			keep(&d.view.Money, &d.view.Money.Freshness, m, err, now)
			d.putMoney()
		}
		if due(&point, now, HistoryStep) {
			d.point(now)
		}
		wait(ctx, lookEvery)
	}
	return nil
}

// putMoney, putDead and putBatches encode the sections that were read.
func (d *Dashboard) putMoney() {
	money := d.view.Money
	d.publicMoney.Store(&money)
	d.put(secMoney, money, nil)
}

func (d *Dashboard) putDead() {
	head := d.view.Dead
	head.Letters = nil
	d.view.Network.DeadLetters = head.Count
	d.put(secDead, head, encodeRows(d.view.Dead.Letters, func(l streams.DeadLetter) string { return seqKey(l.Seq) }))
}

func (d *Dashboard) putBatches() {
	head := d.view.Batches
	head.Batches = nil
	d.put(secBatches, head, encodeRows(d.view.Batches.Batches, BatchRow.key))
}

// due reports whether at has come and moves it on.
func due(at *time.Time, now time.Time, every time.Duration) bool {
	if now.Before(*at) {
		return false
	}
	*at = now.Add(every)
	return true
}
