package streams_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestGossip: what one broker says every broker hears, itself included, and what is too large nobody says.
func TestGossip(t *testing.T) {
	t.Parallel()
	bus, server := streamstest.NewWith(t, streamstest.Options{})
	ctx, cancel := context.WithCancel(streamstest.Context(t))
	heard, ended := make(chan string, 1000), make(chan error, 2)
	for i, b := range []*streams.Bus{bus, streamstest.Connect(t, server, streams.Config{})} {
		go func() {
			ended <- b.HearGossip(ctx, func(m []byte) {
				select {
				case heard <- fmt.Sprintf("%d hears %s", i, m):
				default:
				}
			})
		}()
	}
	got := map[string]bool{}
	for len(got) < 2 { // until both listen
		if err := bus.Gossip([]byte("news")); err != nil {
			t.Fatal(err)
		}
		select {
		case h := <-heard:
			got[h] = true
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("heard only %v", got)
		}
	}
	if !got["0 hears news"] || !got["1 hears news"] {
		t.Errorf("heard %v", got)
	}
	if err := bus.Gossip(make([]byte, 64<<10+1)); !errors.Is(err, schemas.KindTooLarge) {
		t.Errorf("too large: %v", err)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestQueues counts what waits, what is at workers and what came back, by class.
func TestQueues(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	tenant := schemas.NewTenantID()
	publish(t, bus, tenant, 5, nil)
	publish(t, bus, tenant, 2, class(schemas.Batch))
	p := puller(t, bus, streams.PullerOptions{})
	var held []*streams.Delivery
	for len(held) < 3 {
		ds, err := p.Next(ctx, 3-len(held))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, ds...)
	}
	if err := held[0].Retry(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if ds, err := p.Next(ctx, 1); err != nil || ds[0].Delivered != 2 {
		t.Fatalf("a job that was given back: %v", err)
	}
	want := map[schemas.Class][3]uint64{schemas.Priority: {}, schemas.Standard: {2, 3, 1}, schemas.Batch: {2, 0, 0}}
	for { // the server counts a moment later
		list, err := bus.Queues(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := map[schemas.Class][3]uint64{}
		for _, l := range list {
			got[l.Class] = [3]uint64{l.Pending, l.InFlight, l.Redelivered}
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("waiting, at workers, redelivered: %v, want %v", got, want)
		}
	}
}
