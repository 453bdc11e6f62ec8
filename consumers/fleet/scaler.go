package fleet

import "time"

// Demand is what the number of workers for one model on one host is decided from.
type Demand struct {
	// Waiting is the number of jobs of the model that wait, Held the number that workers hold; all hosts together.
	Waiting, Held int
	// Slots is how many jobs one worker of this host holds at a time; at least 1.
	Slots int
	// Others is the number of slots that workers on other hosts offer for the model.
	Others int
	// Min and Max bound the workers of this host. Max 0 means that the host serves the model no more.
	Min, Max int
}

// Want is the number of workers that would hold all jobs at once, within the bounds. Jobs that the other hosts can
// hold are left to them.
func (d Demand) Want() int {
	slots := max(d.Slots, 1)
	jobs := max(d.Waiting+d.Held-d.Others, 0)
	workers := (jobs + slots - 1) / slots
	// Nobody serves the model and somebody waits: one host must begin, whatever the others say they could do.
	if workers == 0 && d.Waiting > 0 && d.Others == 0 {
		workers = 1
	}
	return min(max(workers, d.Min), d.Max)
}

// Pace says how fast a scaler follows.
type Pace struct {
	// Up is the most workers started at one decision; 0 means DefaultUp.
	Up int
	// Down is how long fewer workers must have been enough before one is stopped; 0 means DefaultDown.
	Down time.Duration
	// Idle is how long there must have been no job at all before the last worker is stopped; 0 means DefaultIdle.
	// Starting a worker loads a model, so the last one is kept longer.
	Idle time.Duration
}

// Defaults of Pace.
const (
	DefaultUp   = 2
	DefaultDown = time.Minute
	DefaultIdle = 5 * time.Minute
)

// withDefaults fills in what is zero.
func (p Pace) withDefaults() Pace {
	if p.Up == 0 {
		p.Up = DefaultUp
	}
	if p.Down == 0 {
		p.Down = DefaultDown
	}
	if p.Idle == 0 {
		p.Idle = DefaultIdle
	}
	return p
}

// scaler decides for one model. Up at once, down slowly and one at a time: a worker stopped too early costs the
// loading of a model, one stopped too late costs a minute of an idle machine.
type scaler struct {
	pace Pace
	// below is since when fewer workers than there are would have been enough; zero while they are all needed.
	below time.Time
}

// next is the number of workers to have from now on, given how many there are. Bounds are obeyed at once.
func (s *scaler) next(now time.Time, have int, d Demand) int {
	want := d.Want()
	if have > d.Max {
		s.below = time.Time{}
		return d.Max
	}
	if want >= have {
		s.below = time.Time{}
		return max(min(want, have+s.pace.Up), d.Min)
	}
	if s.below.IsZero() {
		s.below = now
	}
	patience := s.pace.Down
	if have == 1 {
		patience = s.pace.Idle
	}
	if now.Sub(s.below) < patience {
		return have
	}
	s.below = now // the next one waits as long
	return have - 1
}
