package streams_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// TestBucket: values, revisions, compare-and-set, deletion, listing over pages; and the KV of NATS sees the same.
func TestBucket(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	b := bus.Bucket(streams.BucketFleet)
	if _, err := b.Get(ctx, "a"); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("get: %v", err)
	}
	first, err := b.Create(ctx, "a", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Create(ctx, "a", []byte("1")); err != nil || again != first {
		t.Errorf("create the same again: %d %v", again, err)
	}
	if _, err := b.Create(ctx, "a", []byte("2")); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("create another: %v", err)
	}
	second, err := b.Update(ctx, "a", []byte("2"), first)
	if err != nil || second <= first {
		t.Errorf("update: %d %v", second, err)
	}
	if _, err := b.Update(ctx, "a", []byte("3"), first); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("a stale update: %v", err)
	}
	if err := b.Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
	if _, err := b.Get(ctx, "a"); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("after the deletion: %v", err)
	}
	if _, err := b.Create(ctx, "a", []byte("4")); err != nil {
		t.Errorf("create after the deletion: %v", err)
	}
	const keys = 2500
	for i := range keys {
		if _, err := b.Put(ctx, fmt.Sprintf("page.%04d", i), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Put(ctx, "page.0007", []byte("last")); err != nil {
		t.Fatal(err)
	}
	list, err := b.List(ctx, "page.*")
	if err != nil || len(list) != keys || list[7].Key != "page.0007" || string(list[7].Value) != "last" {
		t.Errorf("%d entries, %v", len(list), err)
	}
	if names, err := b.Keys(ctx, ""); err != nil || len(names) != keys+1 {
		t.Errorf("%d keys, %v", len(names), err)
	}
	js, err := jetstream.New(bus.Conn())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, "FLEET")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(ctx, "a"); err != nil || string(e.Value()) != "4" {
		t.Errorf("seen by the KV of NATS: %v %v", e, err)
	}
	if _, err := kv.PutString(ctx, "theirs", "5"); err != nil {
		t.Error(err)
	}
	if e, err := b.Get(ctx, "theirs"); err != nil || string(e.Value) != "5" {
		t.Errorf("put by the KV of NATS: %q %v", e.Value, err)
	}
	for _, key := range []string{"", ".", "a..b", "a b", "a.*", ">", "ä", strings.Repeat("a", 201)} {
		if _, err := b.Put(ctx, key, nil); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("key %q: %v", key, err)
		}
	}
	if _, err := b.Put(ctx, "large", make([]byte, 961<<10)); !errors.Is(err, schemas.KindTooLarge) {
		t.Errorf("a large value: %v", err)
	}
	if _, err := b.Put(ctx, "large", make([]byte, 960<<10)); err != nil {
		t.Errorf("the largest value: %v", err)
	}
}

// TestWatch tells what is there, the end mark, changes, deletions, and lapses in a bucket whose entries live for a time.
func TestWatch(t *testing.T) {
	t.Parallel()
	streamstest.Bubble(t, func(t *testing.T) {
		bus := streamstest.New(t)
		ctx, cancel := context.WithCancel(t.Context())
		workers := bus.Bucket(streams.BucketWorkers)
		put := func(key, value string) {
			t.Helper()
			if _, err := workers.Put(t.Context(), key, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
		put("worker.a", "1")
		put("other.b", "2")
		var told []string
		ended := make(chan error, 1)
		go func() {
			ended <- workers.Watch(ctx, "worker.*", func(e streams.Entry) error {
				told = append(told, fmt.Sprintf("%s=%s %v", e.Key, e.Value, e.Deleted))
				return nil
			})
		}()
		time.Sleep(time.Second)
		put("worker.c", "3")
		put("worker.a", "4")
		put("other.b", "5")
		if err := workers.Delete(t.Context(), "worker.c"); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			time.Sleep(streams.WorkerBeat)
			put("worker.a", "5")
		}
		time.Sleep(streams.WorkerTTL + 2*time.Second)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		want := []string{
			"worker.a=1 false", "= false", "worker.c=3 false", "worker.a=4 false", "worker.c= true",
			"worker.a=5 false", "worker.a=5 false", "worker.a=5 false", "worker.a=5 false", "worker.a= true",
		}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("told %q", told)
		}
		if err := workers.Watch(t.Context(), "", func(streams.Entry) error { return io.EOF }); !errors.Is(err, io.EOF) {
			t.Errorf("an error of the function: %v", err)
		}
	})
}

// TestWorkersLapse: the server itself drops the entry of a worker that is silent.
func TestWorkersLapse(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for 15 real seconds")
	}
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	b := bus.Bucket(streams.BucketWorkers)
	if _, err := b.Put(ctx, "worker.a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(streams.WorkerTTL + 2*time.Second)
	if e, err := b.Get(ctx, "worker.a"); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("%v %v", e, err)
	}
}

// TestStore: objects of all sizes, replacement, deletion, and bytes that do not match.
func TestStore(t *testing.T) {
	t.Parallel()
	bus, ctx := streamstest.New(t), streamstest.Context(t)
	s := bus.Store(streams.StoreWeights)
	for _, size := range []int{0, 1, 512<<10 - 1, 512 << 10, 512<<10 + 1, 9<<20 + 17} {
		data := make([]byte, size)
		rand.Read(data)
		o, err := s.Put(ctx, "w", bytes.NewReader(data))
		if err != nil || o.Size != int64(size) || o.Hash != schemas.HashOf(data) {
			t.Fatalf("%d bytes: %+v %v", size, o, err)
		}
		r, again, err := s.Open(ctx, "w")
		if err != nil || again != o {
			t.Fatalf("%d bytes: %+v %v", size, again, err)
		}
		back, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(back, data) {
			t.Errorf("%d bytes: got %d, %v", size, len(back), err)
		}
		r.Close()
	}
	// A part that was changed behind the description's back.
	if _, err := bus.Conn().RequestWithContext(ctx, "weight.w.3", []byte("other")); err != nil { // answered when it is stored
		t.Fatal(err)
	}
	r, _, err := s.Open(ctx, "w")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("changed bytes: %v", err)
	}
	r.Close()
	if err := s.Delete(ctx, "w"); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Open(ctx, "w"); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("after the deletion: %v", err)
	}
	for _, name := range []string{"", "A", "a.b", "*", strings.Repeat("a", 81)} {
		if _, err := s.Put(ctx, name, strings.NewReader("")); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	closed, _, err := s.Open(ctx, "none")
	if closed != nil || !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("none: %v", err)
	}
}
