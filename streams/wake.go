package streams

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// calledWait is how long the first look after a wake-up waits for the job at the server: it announces a job when it is
// stored, a moment before its consumer knows of it.
const calledWait = 5 * time.Millisecond

// again are the pauses before looking again when that brought nothing. After them somebody else has taken the job.
var again = [...]time.Duration{4 * time.Millisecond, 16 * time.Millisecond, 64 * time.Millisecond}

// wakeBuffer bounds the wake-ups that wait to be read; more tell nothing new.
const wakeBuffer = 1024

// idleGroup is the queue group of idle pullers.
const idleGroup = "idle"

// wanted tells that a job that was not found yet may come to light in a moment.
func (l *lane) wanted() bool { return l.unsure || len(l.announced) > 0 }

// met forgets the announcements that a delivery has answered.
func (l *lane) met(d *Delivery) {
	if d.Delivered > 1 {
		return
	}
	l.taken, l.unsure = d.Ack.Seq, false
	l.announced = slices.DeleteFunc(l.announced, func(seq uint64) bool { return seq <= l.taken })
}

// calm forgets all announcements.
func (l *lane) calm() { l.announced, l.unsure, l.tries = nil, false, 0 }

// lookAgain marks a lane that is wanted as worth another look, a few times.
func (l *lane) lookAgain() {
	if !l.wanted() {
		return
	}
	l.maybe = true
	if l.tries++; l.tries == len(again) {
		l.calm()
	}
}

// each calls f for every lane.
func (p *Puller) each(f func(*lane)) {
	for _, q := range p.queues {
		for _, l := range q.lanes {
			f(l)
		}
	}
}

// soon is when to look again for jobs that were announced and not found, if there are any.
func (p *Puller) soon() (delay time.Duration, wanted bool) {
	p.each(func(l *lane) {
		if l.wanted() && (!wanted || again[l.tries] < delay) {
			delay, wanted = again[l.tries], true
		}
	})
	return delay, wanted
}

// lookAgain marks the lanes of such jobs as worth another look, suspect marks all.
func (p *Puller) lookAgain() { p.each((*lane).lookAgain) }
func (p *Puller) suspect()   { p.each(func(l *lane) { l.maybe = true }) }

// heard marks the lane of a wake-up, wake.<shard>.<model>.<class>.<lane>; its header says where the job lies. A queue with
// one consumer has all lanes in it.
func (p *Puller) heard(m *nats.Msg) {
	tokens := strings.Split(m.Subject, ".")
	if len(tokens) != 5 {
		return
	}
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return
	}
	for _, q := range p.queues {
		if string(q.class) != tokens[3] {
			continue
		}
		for i, l := range q.lanes {
			if (len(q.lanes) == 1 || tokens[4] == laneToken(i)) && seq > l.taken && len(l.announced) < wakeBuffer {
				l.announced = append(l.announced, seq)
				l.maybe, l.called, l.tries = true, true, 0
			}
		}
	}
}

// join subscribes to wake-ups as one of the idle. A job that was stored just before was not announced to us and may not
// be known to its consumer yet.
func (p *Puller) join() error {
	var err error
	p.wakes, err = p.bus.nc.ChanQueueSubscribe(subjectWake(p.o.Route, "*", "*"), idleGroup, p.wake)
	if err != nil {
		return classify(err)
	}
	p.each(func(l *lane) { l.maybe, l.unsure, l.tries = true, true, 0 })
	return nil
}

// leave unsubscribes and passes on the wake-ups that were not met: each was for one job and for nobody else.
func (p *Puller) leave() {
	if p.wakes == nil {
		return
	}
	_ = p.wakes.Unsubscribe()
	p.wakes = nil
	for {
		select {
		case m := <-p.wake:
			p.heard(m)
		default:
			p.passOn()
			return
		}
	}
}

// passOn announces anew, as the stream does, the jobs that were not found.
func (p *Puller) passOn() {
	for _, q := range p.queues {
		for i, l := range q.lanes {
			for _, seq := range l.announced {
				_ = p.bus.nc.PublishMsg(&nats.Msg{
					Subject: subjectWake(p.o.Route, string(q.class), laneToken(i)),
					Header:  nats.Header{jetstream.SequenceHeader: {strconv.FormatUint(seq, 10)}},
				})
			}
			l.calm()
		}
	}
}
