// Package recordtest is the contract of [producers.Record] as a test suite. Every implementation runs it:
//
//	func TestRecord(t *testing.T) {
//		recordtest.Run(t, func(t *testing.T, dir string) producers.Record { … })
//	}
//
// The function opens the record that lives in a folder; the suite calls it again on the same folder to see what
// survived, unless it is told that nothing does. Entries look like real ones: sealed bytes, headers, an outcome.
//
// What the suite holds an implementation to: Create is exclusive by id and by key, also between goroutines; Update and
// Delete are seen by the next Get; List gives every entry once, the oldest first, and the open ones alone when asked;
// Prune takes only what is done and old; what was written is there after Close and Open, byte for byte.
package recordtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Open opens the record that lives in a folder.
type Open func(t *testing.T, dir string) producers.Record

// Run runs the suite. volatile says that nothing survives Close.
func Run(t *testing.T, open Open, volatile bool) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Open){
		"create": testCreate, "update": testUpdate, "list": testList, "prune": testPrune, "race": testRace,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
	if !volatile {
		t.Run("survives", func(t *testing.T) {
			t.Parallel()
			testSurvives(t, open)
		})
	}
}

// entry makes the n-th entry of a test, created n seconds after a fixed time.
func entry(n int, key string) producers.Entry {
	at := time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC)
	return producers.Entry{
		ID: schemas.NewJobID(), State: producers.StateSealed, Key: key, Fingerprint: schemas.HashOf([]byte{byte(n)}),
		Request: []byte{0, 1, 2, byte(n)}, Attributes: map[string][]string{"ce-id": {"x"}, "ce-time": {"y", "z"}},
		Hash: schemas.HashOf([]byte("envelope")), Envelope: []byte(strings.Repeat("\x00\xff", 1000)), Shard: 7,
		Created: at, Updated: at,
	}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create stores an entry that must be new.
func create(t *testing.T, r producers.Record, e producers.Entry) {
	t.Helper()
	if _, created, err := r.Create(t.Context(), e); err != nil || !created {
		t.Fatalf("Create = %v, %v", created, err)
	}
}

// want compares a stored entry.
func want(t *testing.T, r producers.Record, e producers.Entry) {
	t.Helper()
	got, err := r.Get(t.Context(), e.ID)
	must(t, err)
	if diff := cmp.Diff(e, got); diff != "" {
		t.Errorf("entry: %s", diff)
	}
}

// finished is an entry at its end.
func finished(e producers.Entry, at time.Time) producers.Entry {
	e.State, e.Updated, e.Request, e.Envelope, e.Generation = producers.StateDone, at, nil, nil, 2
	e.Ack = streams.Ack{Stream: "JOBS_7", Seq: 1 << 60}
	e.Outcome = &producers.StoredOutcome{Header: map[string][]string{"cocoon-receipt": {"a.b.c"}}, Body: []byte{1, 0, 2}}
	return e
}

func testCreate(t *testing.T, open Open) {
	r := open(t, t.TempDir())
	defer r.Close()
	first, second := entry(1, "key"), entry(2, "key")
	create(t, r, first)
	stored, created, err := r.Create(t.Context(), second)
	must(t, err)
	if created || stored.ID != first.ID {
		t.Errorf("a second entry under one key: created %v, got %s, want %s", created, stored.ID, first.ID)
	}
	again := first
	again.Key = ""
	if stored, created, err = r.Create(t.Context(), again); err != nil || created || stored.Key != "key" {
		t.Errorf("a second entry under one id: created %v, %v", created, err)
	}
	create(t, r, entry(3, ""))
	create(t, r, entry(4, "")) // no key is no conflict
	want(t, r, first)
	if _, err := r.Get(t.Context(), second.ID); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("Get of an entry that was not created = %v, want KindNotFound", err)
	}
}

func testUpdate(t *testing.T, open Open) {
	r := open(t, t.TempDir())
	defer r.Close()
	e := entry(1, "key")
	if err := r.Update(t.Context(), e); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("Update of nothing = %v, want KindNotFound", err)
	}
	create(t, r, e)
	e = finished(e, e.Updated.Add(time.Hour))
	must(t, r.Update(t.Context(), e))
	want(t, r, e)
	must(t, r.Delete(t.Context(), e.ID))
	must(t, r.Delete(t.Context(), e.ID))
	if _, err := r.Get(t.Context(), e.ID); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("Get after Delete = %v, want KindNotFound", err)
	}
	create(t, r, entry(2, "key")) // the key is free again
}

// listed collects the ids of a listing.
func listed(t *testing.T, r producers.Record, open bool) (ids []schemas.JobID) {
	t.Helper()
	for e, err := range r.List(t.Context(), open) {
		must(t, err)
		ids = append(ids, e.ID)
	}
	return ids
}

func testList(t *testing.T, open Open) {
	r := open(t, t.TempDir())
	defer r.Close()
	var all []schemas.JobID
	for i := range 40 {
		e := entry(i, "")
		create(t, r, e)
		all = append(all, e.ID)
		if i == 7 {
			must(t, r.Update(t.Context(), finished(e, e.Updated)))
		}
	}
	if diff := cmp.Diff(all, listed(t, r, false)); diff != "" {
		t.Errorf("all: %s", diff)
	}
	some := append(append([]schemas.JobID(nil), all[:7]...), all[8:]...)
	if diff := cmp.Diff(some, listed(t, r, true)); diff != "" {
		t.Errorf("open: %s", diff)
	}
	for range r.List(t.Context(), false) {
		break // leaving early must not hang the record
	}
	create(t, r, entry(50, ""))
}

func testPrune(t *testing.T, open Open) {
	r := open(t, t.TempDir())
	defer r.Close()
	pending, old, young := entry(1, ""), entry(2, "old"), entry(3, "")
	for _, e := range []producers.Entry{pending, old, young} {
		create(t, r, e)
	}
	line := old.Updated.Add(time.Hour)
	must(t, r.Update(t.Context(), finished(old, line.Add(-time.Second))))
	must(t, r.Update(t.Context(), finished(young, line)))
	if n, err := r.Prune(t.Context(), line); err != nil || n != 1 {
		t.Errorf("Prune = %d, %v, want 1", n, err)
	}
	if diff := cmp.Diff([]schemas.JobID{pending.ID, young.ID}, listed(t, r, false)); diff != "" {
		t.Errorf("left: %s", diff)
	}
	create(t, r, entry(4, "old"))
}

func testRace(t *testing.T, open Open) {
	r := open(t, t.TempDir())
	defer r.Close()
	const goroutines = 8
	var wg sync.WaitGroup
	won := make([]bool, goroutines)
	for i := range goroutines {
		wg.Go(func() {
			_, created, err := r.Create(context.Background(), entry(i, "one key"))
			if err != nil {
				t.Error(err)
			}
			won[i] = created
			e := entry(20+i, fmt.Sprint("key ", i))
			create(t, r, e)
			e = finished(e, e.Updated)
			must(t, r.Update(context.Background(), e))
			want(t, r, e)
		})
	}
	wg.Wait()
	winners := 0
	for _, w := range won {
		if w {
			winners++
		}
	}
	if winners != 1 {
		t.Errorf("%d entries were created under one key", winners)
	}
}

func testSurvives(t *testing.T, open Open) {
	dir := t.TempDir()
	r := open(t, dir)
	kept, gone, big := entry(1, "kept"), entry(2, "gone"), entry(3, "")
	big.Envelope = make([]byte, 3<<20)
	for _, e := range []producers.Entry{kept, gone, big} {
		create(t, r, e)
	}
	kept = finished(kept, kept.Updated.Add(time.Minute))
	must(t, r.Update(t.Context(), kept))
	must(t, r.Delete(t.Context(), gone.ID))
	must(t, r.Close())

	r = open(t, dir)
	defer r.Close()
	want(t, r, kept)
	want(t, r, big)
	if diff := cmp.Diff([]schemas.JobID{kept.ID, big.ID}, listed(t, r, false)); diff != "" {
		t.Errorf("left: %s", diff)
	}
	if _, created, err := r.Create(t.Context(), entry(4, "kept")); err != nil || created {
		t.Errorf("a key was forgotten: created %v, %v", created, err)
	}
}
