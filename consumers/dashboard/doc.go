// Package dashboard shows a network to its operators and its few public figures to everybody.
//
// [New] makes a [Dashboard]: run its Run, which looks at the network every two seconds, and mount its Handler. Each look
// makes a [View] of nine sections. A section is a head and rows that have keys; a browser holds one event stream, names the
// sections of its page, and is sent a row only when it has changed. Nothing is computed per browser but that choice.
//
//	/            the pages: network, workers, jobs, batches, dead letters, money, trust (one document, no build step, works offline)
//	/api/view    the last look as JSON; /api/events the same as server-sent events; both take ?sections=network,workers
//	/api/workers/{worker}, /api/dead, /api/dead/{seq}   what a row leaves out
//	/api/...     two actions, replaying a dead letter and steering a worker, which need the operator token
//	/status      the public figures as a page; /status.json as JSON
//
// Batches are shown from two sides. The network can see a tenant's jobs of class batch, by model; which of them are one
// submission stands in sealed bodies, which are never read. The names and progress of batches live with the gateway that
// submits them, and are shown where one runs in the same process.
//
// What it refuses to do: it holds no key that opens anything and never reads a sealed body. It shows public attributes,
// hashes, and what workers and settlement say. Figures that a worker states about itself are labelled as stated. It
// never writes except through the two actions, and an action names the exact thing it is about, so that sending it
// twice does nothing more than sending it once.
//
// A source that cannot be read keeps its last values and its section says since when and why: a page is never blank.
package dashboard
