package reference

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// counted counts the steps.
type counted struct{ sealed, answered, opened atomic.Int64 }

func (c *counted) Seal()   { c.sealed.Add(1) }
func (c *counted) Answer() { c.answered.Add(1) }
func (c *counted) Open()   { c.opened.Add(1) }

// TestProgram: every job goes the whole way, with every step once, and a paced run is not faster than its pace.
func TestProgram(t *testing.T) {
	t.Parallel()
	bus := streamstest.New(t)
	j := streamstest.Job(schemas.NewTenantID(), []byte("sealed"), nil)
	o := streamstest.Outcome(j.Attributes, []byte("result"))
	var steps counted
	p, err := New(streamstest.Context(t), bus, Shape{
		JobHeader: j.Attributes.Header(), Job: j.Envelope, OutcomeHeader: o.Header(), Outcome: o.Body,
	}, 4, &steps)
	if err != nil {
		t.Fatal(err)
	}
	const jobs, pace = 30, 5 * time.Millisecond
	start := time.Now()
	times, err := p.Run(streamstest.Context(t), jobs, pace)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < (jobs-1)*pace {
		t.Errorf("%d jobs took %v, faster than one per %v", jobs, took, pace)
	}
	if len(times) != jobs || steps.sealed.Load() != jobs || steps.answered.Load() != jobs || steps.opened.Load() != jobs {
		t.Errorf("%d times, %d sealed, %d answered, %d opened; want %d of each", len(times), steps.sealed.Load(), steps.answered.Load(), steps.opened.Load(), jobs)
	}
	n := 0
	if err := bus.Stored(context.Background(), streams.StreamOutcomes, func(streams.StoredMessage) error { n++; return nil }); err != nil || n != jobs {
		t.Errorf("%d outcomes stored (%v), want %d", n, err, jobs)
	}
}
