// Package dashboard shows a network to its operators and its few public figures to everybody.
//
// [New] makes a [Dashboard]: run its Run, which looks at the network once a second, and mount its Handler. Each look
// makes a [View] of seven sections; browsers hold one event stream each and are sent a section only when it has
// changed. Nothing is computed per browser, so a hundred open pages cost what one costs.
//
//	/            the pages: network, workers, jobs, dead letters, money, trust (one document, no build step, works offline)
//	/api/view    the last look as JSON; /api/events the same as server-sent events, one section an event
//	/api/...     two actions, replaying a dead letter and steering a worker, which need the operator token
//	/status      the public figures as a page; /status.json as JSON
//
// What it refuses to do: it holds no key that opens anything and never reads a sealed body. It shows public attributes,
// hashes, and what workers and settlement say. Figures that a worker states about itself are labelled as stated. It
// never writes except through the two actions, and an action names the exact thing it is about, so that sending it
// twice does nothing more than sending it once.
//
// A source that cannot be read keeps its last values and its section says since when and why: a page is never blank.
package dashboard
