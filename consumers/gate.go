package consumers

import (
	"slices"
	"sync"
)

// Sources that can shut a gate. Each holds its own reason, so that one that reopens does not overrule another.
const (
	gateDrain   = "drain"   // the worker is ending, or an order drains it
	gateOrder   = "order"   // the operator disabled it
	gateSession = "session" // no broker session: not admitted, or not yet
	gateMachine = "machine" // memory or accelerators
	gateEngine  = "engine"  // the engine hangs or restarts; of one model
)

// gate decides whether jobs may be taken: it is open while no source gives a reason against it.
type gate struct {
	changed func() // called after every change, without the mutex

	// mu guards reasons.
	mu      sync.Mutex
	reasons map[string]string
}

// set gives a source's reason; "" withdraws it. It reports whether anything changed.
func (g *gate) set(source, reason string) bool {
	g.mu.Lock()
	if g.reasons == nil {
		g.reasons = map[string]string{}
	}
	same := g.reasons[source] == reason
	if reason == "" {
		delete(g.reasons, source)
	} else {
		g.reasons[source] = reason
	}
	g.mu.Unlock()
	if !same && g.changed != nil {
		g.changed()
	}
	return !same
}

// open reports whether jobs may be taken.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.reasons) == 0
}

// why is the reason of the first source, in the order of their names, that shuts the gate, and that source; both empty
// when it is open.
func (g *gate) why() (source, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	sources := make([]string, 0, len(g.reasons))
	for s := range g.reasons {
		sources = append(sources, s)
	}
	if len(sources) == 0 {
		return "", ""
	}
	slices.Sort(sources)
	return sources[0], g.reasons[sources[0]]
}
