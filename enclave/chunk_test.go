package enclave_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// stream is a running job with the chunks that left it.
type stream struct {
	*enclave.ChunkWriter
	frames [][]byte
}

// open begins the live stream of a job.
func openStream(t *testing.T, job *enclave.OpenJob, tick time.Duration) *stream {
	t.Helper()
	s := &stream{}
	var err error
	if s.ChunkWriter, err = job.Chunks(tick, func(frame []byte) error {
		s.frames = append(s.frames, frame)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// write adds events.
func (s *stream) write(t *testing.T, events ...string) {
	t.Helper()
	for _, e := range events {
		if err := s.Write([]byte(e)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChunksAreTicked: events leave together at the tick, the first ones without a wait; they are padded, and come out in
// order; the end is marked.
func TestChunksAreTicked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := enclavetest.New(t)
		tenant := n.Tenant(t)
		sealed := n.Seal(t, enclave.NewSubmission(tenant, n.Key(t)), "x")
		s := openStream(t, n.Grant(t, n.Session(t), sealed), 0)
		for burst := range 20 {
			s.write(t, fmt.Sprintf(`{"n":%d}`, 2*burst), fmt.Sprintf(`{"n":%d}`, 2*burst+1))
			tick := enclave.DefaultTick
			if burst == 0 {
				tick = enclave.FirstTick
			}
			time.Sleep(tick - 1)
			synctest.Wait()
			if len(s.frames) != burst {
				t.Fatalf("%d chunks before the tick, want %d", len(s.frames), burst)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if len(s.frames) != burst+1 {
				t.Fatalf("%d chunks after the tick, want %d", len(s.frames), burst+1)
			}
		}
		s.write(t, `{"n":40}`)
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s.write(t, "after the end")
		time.Sleep(time.Second)
		if len(s.frames) != 21 {
			t.Fatalf("%d chunks, want 21", len(s.frames))
		}
		opener := tenant.ChunkOpener(sealed.Attributes.ID, sealed.Hash)
		next := 0
		for i, frame := range s.frames {
			if bytes.Contains(frame, []byte(`{"n":`)) { // five bytes: three would be in random ones now and then
				t.Fatal("a chunk shows its events")
			}
			if parsed, err := schemas.ParseSealedChunk(frame); err != nil || len(parsed.Payload) != schemas.ChunkQuantum+schemas.TagSize {
				t.Fatalf("chunk %d is not padded: %v", i, err)
			}
			live, err := opener.Open(frame)
			if err != nil {
				t.Fatal(err)
			}
			if live.NewRun != (i == 0) || live.Missed || live.Last != (i == 20) || live.Attempt != 1 {
				t.Errorf("chunk %d: %+v", i, live)
			}
			for _, e := range live.Events {
				if string(e) != fmt.Sprintf(`{"n":%d}`, next) {
					t.Errorf("event %s, want number %d", e, next)
				}
				next++
			}
		}
		if next != 41 {
			t.Errorf("%d events came out", next)
		}
	})
}

// TestChunksOfAnotherAttempt: a second run is visible as one, and the first cannot speak any more.
func TestChunksOfAnotherAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := enclavetest.New(t)
		tenant := n.Tenant(t)
		sealed := n.Seal(t, enclave.NewSubmission(tenant, n.Key(t)), "x")
		first := openStream(t, n.Grant(t, n.Session(t), sealed), time.Millisecond)
		first.write(t, "one")
		time.Sleep(time.Minute) // the first worker is gone, its lease lapses
		second := openStream(t, n.Grant(t, n.Session(t), sealed), time.Millisecond)
		for range 17 { // the seventeenth repeats the encapsulation
			second.write(t, "two")
			time.Sleep(time.Second)
		}
		first.write(t, "again")
		time.Sleep(time.Second)
		synctest.Wait()

		opener := tenant.ChunkOpener(sealed.Attributes.ID, sealed.Hash)
		if live, err := opener.Open(first.frames[0]); err != nil || string(live.Events[0]) != "one" {
			t.Fatalf("%+v, %v", live, err)
		}
		if _, err := opener.Open(second.frames[3]); !errors.Is(err, schemas.KindUnavailable) {
			t.Errorf("without the run's beginning: %v", err)
		}
		live, err := opener.Open(second.frames[16])
		if err != nil || !live.NewRun || !live.Missed || live.Attempt != 2 {
			t.Errorf("%+v, %v", live, err)
		}
		if _, err := opener.Open(first.frames[1]); !errors.Is(err, schemas.KindReplayed) {
			t.Errorf("the first run spoke again: %v", err)
		}
		stranger := n.Tenant(t).ChunkOpener(sealed.Attributes.ID, sealed.Hash)
		if _, err := stranger.Open(first.frames[0]); !errors.Is(err, schemas.KindSealed) {
			t.Errorf("another tenant listens: %v", err)
		}
	})
}

// TestChunksLeaveWhenFull: a burst does not wait for its tick, and a listener who is away does not stop the job.
func TestChunksLeaveWhenFull(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	job := n.Grant(t, n.Session(t), n.Seal(t, enclave.NewSubmission(n.Tenant(t), n.Key(t)), "x"))
	s := openStream(t, job, time.Hour)
	s.write(t, strings.Repeat("x", 40<<10), strings.Repeat("y", 40<<10), "z")
	if len(s.frames) != 1 {
		t.Errorf("%d chunks left", len(s.frames))
	}
	lost := errors.New("nobody listens")
	w, err := job.Chunks(time.Hour, func([]byte) error { return lost })
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(make([]byte, 100<<10)); !errors.Is(err, lost) {
		t.Errorf("%v", err)
	}
	if err := w.Close(); !errors.Is(err, lost) {
		t.Errorf("%v", err)
	}
}
