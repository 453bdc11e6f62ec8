package consumers

import (
	"errors"

	"github.com/cocoon-network/cocoon/schemas"
)

// Point is a place in the life of a job where a test may stop a worker.
type Point = point

// The points.
const (
	PointTaken     = pointTaken
	PointGranted   = pointGranted
	PointRunning   = pointRunning
	PointAnswered  = pointAnswered
	PointPublished = pointPublished
)

// ErrKilled is what Run returns after Kill.
var ErrKilled = errors.New("consumers: the worker was killed")

// SetProbe makes the worker call f for every job at every point, before Run.
func (w *Worker) SetProbe(f func(Point, schemas.JobID, int)) {
	w.probe = func(p point, t *task) { f(p, t.delivery.Attributes.ID, t.delivery.Delivered) }
}

// Kill ends the worker as a power cut would: it says nothing more to anybody.
func (w *Worker) Kill() { w.kill(ErrKilled) }

// Freeze stops everything that keeps leases, as SIGSTOP would; the returned function is SIGCONT.
func (w *Worker) Freeze() (thaw func()) {
	w.keeper.mu.Lock()
	w.renewer.mu.Lock()
	return func() {
		w.renewer.mu.Unlock()
		w.keeper.mu.Unlock()
	}
}
