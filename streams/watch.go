package streams

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Limits of a watch.
const (
	// resync is how often a watch reads the bucket again, in case a change was not heard.
	resync = 30 * time.Second
	// watchBuffer bounds the changes that wait to be told. When it is full, later ones are found by the next reading.
	watchBuffer = 1024
)

// watcher is one running Watch.
type watcher struct {
	bucket *Bucket
	filter string
	f      func(Entry) error
	// told holds what the caller knows of each key that is there.
	told map[string]known
}

// known is what the caller of Watch knows of a key.
type known struct {
	revision uint64
	// heard is when we learnt of it, by our own monotonic clock: whether an entry has lapsed must not depend on two
	// clocks agreeing.
	heard time.Time
}

// Watch tells the current entries that match the filter and then every change, until ctx ends. Changes of one key may be
// merged, the last one never is. After the current entries it calls f once with the zero Entry. An error of f ends it.
// f runs in the caller's goroutine. Reconnects are bridged; a missed change is found within 30 s.
func (k *Bucket) Watch(ctx context.Context, filter string, f func(Entry) error) error {
	if filter == "" {
		filter = ">"
	}
	live := make(chan *nats.Msg, watchBuffer)
	sub, err := k.bus.nc.ChanSubscribe(k.name.live(filter), live)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	denied, stop := k.bus.denials.denied(sub.Subject)
	defer stop()
	back, done := k.bus.reconnects.listen()
	defer done()
	w := &watcher{bucket: k, filter: filter, f: f, told: map[string]known{}}
	if err := w.read(ctx); err != nil {
		return err
	}
	if err := f(Entry{}); err != nil {
		return err
	}
	return w.follow(ctx, live, back, denied)
}

// follow tells changes as they are heard, and reads again when some may have been missed.
func (w *watcher) follow(ctx context.Context, live <-chan *nats.Msg, back <-chan struct{}, denied <-chan error) error {
	again := time.NewTicker(resync)
	defer again.Stop()
	lapse := time.NewTimer(w.nextLapse())
	defer lapse.Stop()
	for {
		var err error
		select {
		case m := <-live:
			err = w.heard(m)
		case err = <-denied:
		case <-lapse.C:
			err = w.lapse()
			lapse.Reset(w.nextLapse())
		case <-back:
			err = w.read(ctx)
		case <-again.C:
			err = w.read(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
	}
}

// nextLapse is the time until entries are looked at for their age; far away in buckets that keep them.
func (w *watcher) nextLapse() time.Duration {
	if w.bucket.name.ttl() == 0 {
		return 24 * time.Hour
	}
	return time.Second
}

// read tells what the bucket holds and what it holds no more.
func (w *watcher) read(ctx context.Context) error {
	list, err := w.bucket.List(ctx, w.filter)
	if err != nil {
		return err
	}
	present := make(map[string]bool, len(list))
	for _, e := range list {
		present[e.Key] = true
		if err := w.tell(e); err != nil {
			return err
		}
	}
	for key, known := range w.told {
		if present[key] {
			continue
		}
		if err := w.tell(Entry{Key: key, Revision: known.revision, Updated: time.Now(), Deleted: true}); err != nil {
			return err
		}
	}
	return nil
}

// heard tells a change that was republished.
func (w *watcher) heard(m *nats.Msg) error {
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return nil // not the server's: nobody else is told anything by it
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		at = time.Now()
	}
	e := w.bucket.entry(stored{header: m.Header, data: m.Data, seq: seq, time: at})
	e.Key = strings.TrimPrefix(m.Subject, w.bucket.name.live(""))
	return w.tell(e)
}

// lapse tells the entries that have not been renewed in time.
func (w *watcher) lapse() error {
	ttl := w.bucket.name.ttl()
	for key, known := range w.told {
		if ttl == 0 || time.Since(known.heard) <= ttl {
			continue
		}
		if err := w.tell(Entry{Key: key, Revision: known.revision, Updated: time.Now(), Deleted: true}); err != nil {
			return err
		}
	}
	return nil
}

// tell passes an entry on unless the caller knows it or a later one.
func (w *watcher) tell(e Entry) error {
	last, ok := w.told[e.Key]
	if ok && e.Revision < last.revision || !ok && e.Deleted {
		return nil
	}
	if e.Deleted {
		delete(w.told, e.Key)
		return w.f(e)
	}
	if ok && e.Revision == last.revision {
		return nil
	}
	w.told[e.Key] = known{e.Revision, time.Now()}
	return w.f(e)
}
