package consumers

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// Patience with an engine that is full although it said it had room: somebody else uses it, or it counts otherwise. Nothing
// is pulled meanwhile, and the job goes back after maxBusyTries pauses.
const (
	busyPause    = 250 * time.Millisecond
	maxBusyTries = 8
)

// usageTeller is what a Stream may offer besides: what the request has used so far. After Next has returned an error it is what
// a request that was cancelled or broke costs; exact is false when it is an estimate, and nothing is charged then. While the
// request runs it tells the watchdog that it moves.
type usageTeller interface {
	Usage() (u schemas.Usage, exact bool)
}

// answer is what an engine made of a job.
type answer struct {
	done *Done
	// usage is what was computed, also when there is no answer.
	usage             schemas.Usage
	started, finished time.Time
}

// execute runs the job in the engine and sends live chunks while it runs.
func (t *task) execute(job *enclave.OpenJob) (answer, error) {
	l := t.line
	a := answer{started: time.Now()}
	stream, err := t.submit(job)
	l.submitted(t)
	if err != nil {
		return a, err
	}
	defer stream.Close()
	var ended atomic.Bool
	defer ended.Store(true)
	defer context.AfterFunc(t.ctx, func() { t.interrupt(stream, &ended) })()
	var chunks *enclave.ChunkWriter
	if job.Request.Stream {
		attrs := &job.Attributes
		chunks, err = job.Chunks(l.w.tick, func(sealed []byte) error {
			return l.w.c.Bus.PublishChunk(attrs.Tenant, attrs.ID, sealed)
		})
		if err != nil {
			return a, err
		}
		defer chunks.Close()
	}
	l.w.at(pointRunning, t)
	l.watch.enter(t, stream)
	a.done, err = t.follow(stream, chunks)
	l.watch.leave(t)
	a.finished = time.Now()
	if err != nil {
		if teller, ok := stream.(usageTeller); ok {
			if u, exact := teller.Usage(); exact {
				a.usage = u
			}
		}
		return a, err
	}
	a.usage = a.done.Usage
	return a, counted(a.done)
}

// submit gives the job to the engine. An engine that is full is tried again a few times: the grant has used up an attempt.
func (t *task) submit(job *enclave.OpenJob) (Stream, error) {
	for try := 1; ; try++ {
		if err := t.ctx.Err(); err != nil {
			return nil, err
		}
		stream, err := t.line.engine.Submit(t.ctx, t.call(job))
		kind := schemas.KindOf(err)
		if err == nil || kind != schemas.KindBusy && kind != schemas.KindUnavailable {
			return stream, err
		}
		t.line.pause(2 * busyPause)
		if kind == schemas.KindUnavailable || try == maxBusyTries || t.ctx.Err() != nil {
			return nil, err
		}
		sleep(t.ctx, jitter(busyPause))
	}
}

// call is the job in the engine's words.
func (t *task) call(job *enclave.OpenJob) *Request {
	r := &Request{
		ID: string(job.Attributes.ID), Tenant: job.Attributes.Tenant, Priority: urgency(job.Attributes.Class),
		URL: job.Request.URL, ContentType: job.Request.ContentType, Body: job.Request.Body,
	}
	r.Deadline, _ = t.ctx.Deadline()
	return r
}

// urgency orders the classes inside an engine.
func urgency(c schemas.Class) int {
	switch c {
	case schemas.Priority:
		return 1
	case schemas.Batch:
		return -1
	}
	return 0
}

// follow reads the stream to its end.
func (t *task) follow(stream Stream, chunks *enclave.ChunkWriter) (*Done, error) {
	for {
		event, err := stream.Next()
		t.line.watch.moved(t)
		switch {
		case errors.Is(err, io.EOF):
			return nil, &schemas.Error{Kind: schemas.KindEngine, Message: "the stream ended without an answer"}
		case err != nil:
			return nil, err
		case event.Done != nil:
			return event.Done, nil
		case chunks != nil && len(event.Delta) > 0:
			_ = chunks.Write(event.Delta) // live chunks are a courtesy; the result has everything
		}
	}
}

// counted refuses an answer that nobody counted: a receipt must state what was used, never a guess and never nothing.
func counted(d *Done) error {
	if !d.UsageExact || d.Usage.Total() == 0 {
		return &schemas.Error{Kind: schemas.KindEngine, Field: "usage", Message: "the engine did not count the tokens exactly"}
	}
	return nil
}

// interrupt ends a request whose job must not go on. An engine that does not obey keeps its slot, but not the job: the
// lease is let go so that another worker can have it.
func (t *task) interrupt(stream Stream, ended *atomic.Bool) {
	stream.Close()
	time.AfterFunc(stopGrace, func() {
		if !ended.Load() && t.lease.held() {
			t.line.log.Warn("the engine does not end a cancelled job", "job", t.delivery.Attributes.ID)
			t.lease.release()
		}
	})
}
