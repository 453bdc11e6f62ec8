package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// testGrant stands for a signed grant: its JSON. verify accepts it unless it says that it is forged.
func testGrant(g schemas.Grant) string {
	text, err := json.Marshal(g)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func verify(grant, receipt string) (g schemas.Grant, r schemas.Receipt, err error) {
	if err := json.Unmarshal([]byte(grant), &g); err != nil {
		return g, r, err
	}
	if g.Broker == "forged" {
		return g, r, errors.New("forged")
	}
	if receipt != "" {
		err = json.Unmarshal([]byte(receipt), &r)
	}
	return g, r, err
}

// work publishes what a worker's run leaves: the broker's record and, unless lost, an outcome.
func work(t *testing.T, bus *streams.Bus, worker schemas.WorkerID, owner schemas.Owner, o func(*schemas.Outcome, *schemas.Grant) bool) {
	t.Helper()
	job := streamstest.Job(schemas.NewTenantID(), []byte("sealed"), nil)
	now := time.Now().UTC().Truncate(time.Second)
	grant := schemas.Grant{Job: job.Attributes.ID, Worker: worker, Owner: owner, Attempt: 1, Issued: now.Add(-2 * time.Second)}
	record := streams.AuditRecord{Time: now, Broker: schemas.KeyIDOf(nil), Verb: streams.VerbGrant, Worker: worker, Owner: owner, Job: grant.Job, Attempt: 1}
	if err := bus.PublishAudit(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	receipt, err := json.Marshal(schemas.Receipt{Finished: now})
	if err != nil {
		t.Fatal(err)
	}
	outcome := schemas.Outcome{Job: grant.Job, Tenant: job.Attributes.Tenant, Model: streamstest.Model, Status: schemas.Succeeded, Receipt: string(receipt)}
	if !o(&outcome, &grant) {
		// Lost: another worker is granted the job and finishes it.
		record.Worker, record.Attempt, grant.Worker = "wother", 2, "wother"
		if err := bus.PublishAudit(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	outcome.Grant = testGrant(grant)
	if _, err := bus.PublishOutcome(t.Context(), outcome); err != nil {
		t.Fatal(err)
	}
}

func good(*schemas.Outcome, *schemas.Grant) bool { return true }
func lost(*schemas.Outcome, *schemas.Grant) bool { return false }

func failed(kind schemas.Kind) func(*schemas.Outcome, *schemas.Grant) bool {
	return func(o *schemas.Outcome, _ *schemas.Grant) bool {
		o.Status, o.Kind, o.Receipt = schemas.Failed, kind, ""
		return true
	}
}

func forged(o *schemas.Outcome, g *schemas.Grant) bool {
	g.Broker = "forged"
	return failed(schemas.KindEngine)(o, g)
}

// TestReputation: what became of the grants is counted for worker and owner from verified statements alone, published, and
// counted again after a restart; below the floor a worker is put on probation.
func TestReputation(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		bus := streamstest.New(t)
		const worker, owner = schemas.WorkerID("wtest"), schemas.Owner("0:00")
		o := Options{Verify: verify, Floor: func() schemas.Reputation {
			return schemas.Reputation{MinSuccess: 8000, MinJobs: 10, WindowMinutes: 24 * 60}
		}}
		for _, f := range []func(*schemas.Outcome, *schemas.Grant) bool{
			good, good, good, good, good, good, failed(schemas.KindEngine), lost, failed(schemas.KindInvalid), forged,
		} {
			work(t, bus, worker, owner, f)
		}
		reputation := func(key string) streams.Reputation {
			t.Helper()
			e, err := bus.Bucket(streams.BucketWorkers).Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			r, err := streams.ParseReputation(e.Value)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for life := range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			s := New(bus, o)
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			time.Sleep(15 * time.Second)
			r := reputation("reputation.wtest")
			long := r.Windows[1]
			if long.Succeeded != 6 || long.Failed != 1 || long.Lost != 1 || r.Standing != streams.StandingGood || r.Owner != owner {
				t.Errorf("life %d: %+v", life, r)
			}
			if long.Median < 1600*time.Millisecond || long.Median > 2400*time.Millisecond {
				t.Errorf("median %v, want about 2 s", long.Median)
			}
			// The owner has what the job's second worker did for it too.
			if r := reputation(streams.KeyOwner(owner)); r.Windows[1].Succeeded != 7 || r.Windows[1].Lost != 1 {
				t.Errorf("owner: %+v", r.Windows)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		for range 4 {
			work(t, bus, worker, owner, failed(schemas.KindEngine))
		}
		ctx, cancel := context.WithCancel(t.Context())
		s := New(bus, o)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(15 * time.Second)
		if r := reputation("reputation.wtest"); r.Standing != streams.StandingProbation {
			t.Errorf("below the floor: %+v", r)
		}
		if n := s.records.standings()[streams.StandingProbation]; n != 1 {
			t.Errorf("%d workers on probation", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestStandings walks through the decisions.
func TestStandings(t *testing.T) {
	t.Parallel()
	floor := schemas.Reputation{MinSuccess: 9000, MinJobs: 50}
	w := func(succeeded, lost uint64) streams.ReputationWindow {
		return streams.ReputationWindow{Succeeded: succeeded, Lost: lost}
	}
	for _, c := range []struct {
		have, want  streams.Standing
		short, long streams.ReputationWindow
		since       time.Duration
	}{
		{streams.StandingGood, streams.StandingGood, w(0, 0), w(0, 0), 0},
		{streams.StandingGood, streams.StandingGood, w(0, 20), w(20, 29), 0}, // too few to judge
		{streams.StandingGood, streams.StandingGood, w(0, 5), w(45, 5), 0},   // at the floor
		{streams.StandingGood, streams.StandingProbation, w(0, 0), w(44, 6), 0},
		{streams.StandingProbation, streams.StandingProbation, w(100, 0), w(44, 6), time.Minute}, // too soon
		{streams.StandingProbation, streams.StandingGood, w(10, 0), w(44, 6), time.Hour},
		{streams.StandingProbation, streams.StandingProbation, w(9, 0), w(44, 6), time.Hour}, // too few
		{streams.StandingProbation, streams.StandingProbation, w(6, 4), w(44, 6), time.Hour},
		{streams.StandingProbation, streams.StandingSuspended, w(4, 6), w(44, 6), time.Hour},
		{streams.StandingSuspended, streams.StandingSuspended, w(0, 0), w(0, 50), time.Minute},
		{streams.StandingSuspended, streams.StandingProbation, w(0, 0), w(0, 50), time.Hour},
	} {
		if got := nextStanding(c.have, c.short, c.long, floor, c.since); got != c.want {
			t.Errorf("%s with %+v and %+v for %v: %s, want %s", c.have, c.short, c.long, c.since, got, c.want)
		}
	}
	if got := nextStanding(streams.StandingSuspended, w(0, 9), w(0, 99), schemas.Reputation{}, 0); got != streams.StandingGood {
		t.Errorf("without a floor: %s", got)
	}
}

// TestWindow: what is older than the span is forgotten, slot by slot; the median is near.
func TestWindow(t *testing.T) {
	t.Parallel()
	w := window{span: 30 * time.Minute}
	now := time.Unix(1_800_000_000, 0)
	for i := range 60 {
		w.at(now.Add(time.Duration(i)*time.Minute)).succeeded++
	}
	if got := w.sum(now.Add(59 * time.Minute)).Succeeded; got < 29 || got > 31 {
		t.Errorf("%d in the last half hour", got)
	}
	if got := w.sum(now.Add(3 * time.Hour)).Succeeded; got != 0 {
		t.Errorf("%d after three hours", got)
	}
	for _, d := range []time.Duration{time.Millisecond, 50 * time.Millisecond, time.Second, 42 * time.Second, 20 * time.Minute} {
		var h histogram
		for range 101 {
			h.add(d)
		}
		h.add(time.Hour)
		if m := h.median(); m < d*8/10 || m > d*12/10 {
			t.Errorf("median of %v is %v", d, m)
		}
	}
	var none histogram
	if none.median() != 0 {
		t.Error("a median of nothing")
	}
}

// TestIndexFull: what does not fit is a gap, to be read later, and nothing is forgotten.
func TestIndexFull(t *testing.T) {
	t.Parallel()
	x := newIndex(&Service{})
	x.count = maxIndexed
	for seq := uint64(1); seq <= 5; seq++ {
		x.add(streams.Arrival{Queue: streams.Queue{Route: streamstest.Route}, Seq: seq, Expiry: time.Now()})
	}
	if got := fmt.Sprint(x.shards[0].gaps); got != "[{1 6}]" {
		t.Errorf("gaps %s", got)
	}
	if gaps := x.takeGaps(0, 1, 5); gaps != nil {
		t.Errorf("read while full: %v", gaps)
	}
	x.count = 0
	if got := fmt.Sprint(x.takeGaps(0, 3, 9)); got != "[{3 6} {6 10}]" {
		t.Errorf("gaps %s", got)
	}
	x.add(streams.Arrival{Queue: streams.Queue{Route: streamstest.Route}, Seq: 15, Expiry: time.Now()})
	if got := fmt.Sprint(x.shards[0].gaps); got != "[{10 15}]" {
		t.Errorf("gaps after a jump %s", got)
	}
}
