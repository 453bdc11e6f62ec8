package enclave

import (
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// DefaultTick is how long events are collected before a chunk leaves. Ticks hide the rhythm of single tokens, padding
// hides their lengths; both reduce what an onlooker learns and remove none of it.
const DefaultTick = 100 * time.Millisecond

// FirstTick is the tick of a run's first chunk. Who sees it come learns when the answer began, and would learn the same from
// one that comes a fixed time later; so it need not wait, only for what an engine says in the same breath.
const FirstTick = time.Millisecond

// maxChunkPlain is the size at which a chunk leaves before its tick.
const maxChunkPlain = 64 << 10

// ChunkWriter collects the events of a running job and sends them as sealed chunks. It is safe for concurrent use.
type ChunkWriter struct {
	send func(sealed []byte) error
	tick time.Duration // of the next chunk
	then time.Duration // of those after it
	run  run
	enc  []byte
	key  [secretSize]byte

	mu     sync.Mutex // guards the fields below and orders the calls of send
	seq    uint32
	events [][]byte
	room   []byte // holds events; what is full belongs to them alone
	size   int
	timer  *time.Timer
	closed bool
	err    error
}

// Write adds one event, the JSON object of a server-sent event. It returns the first error of send, after which chunks
// are no longer sent: live chunks are a courtesy, the result has everything.
func (w *ChunkWriter) Write(event []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.err != nil {
		return w.err
	}
	w.keep(event)
	w.size += len(event) + 8
	switch {
	case w.size >= maxChunkPlain || len(w.events) == schemas.MaxChunkEvents:
		w.flush(false)
	case w.timer == nil:
		w.timer = time.AfterFunc(w.tick, w.Flush)
	}
	return w.err
}

// eventRoom is how much memory for events is taken at a time: enough for a tick of most engines.
const eventRoom = 8 << 10

// keep copies an event; the caller holds mu.
func (w *ChunkWriter) keep(event []byte) {
	if cap(w.room)-len(w.room) < len(event) {
		w.room = make([]byte, 0, max(eventRoom, len(event)))
	}
	start := len(w.room)
	w.room = append(w.room, event...)
	w.events = append(w.events, w.room[start:len(w.room):len(w.room)])
}

// Flush sends what was collected since the last chunk, before its tick. Without events it does nothing.
func (w *ChunkWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.err == nil && len(w.events) > 0 {
		w.flush(false)
	}
}

// Close sends the rest and marks the end of the run. A second Close does nothing.
func (w *ChunkWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		if w.err == nil {
			w.flush(true)
		}
		clear(w.key[:])
	}
	return w.err
}

// flush seals and sends the collected events. The caller holds mu.
func (w *ChunkWriter) flush(last bool) {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	chunk := schemas.Chunk{Events: w.events}
	sealed := schemas.SealedChunk{
		Version: schemas.EnvelopeVersion, Attempt: w.run.attempt, Worker: w.run.worker, Seq: w.seq, Last: last, Index: w.run.index,
	}
	if w.seq%schemas.ChunkEncEvery == 0 {
		sealed.Enc = w.enc
	}
	nonce := frameNonce(w.seq, last)
	padded := padChunk(chunk.Encode())
	sealed.Payload = gcm(w.key).Seal(padded[:0], nonce[:], padded, nil)
	w.seq++
	w.tick = w.then
	clear(w.events)
	w.events, w.room, w.size = w.events[:0], w.room[:0], 0
	w.err = w.send(sealed.Encode())
}

// chunkSize is the size that a chunk's content of n bytes is padded to.
func chunkSize(n int) int {
	return (n + lengthPrefix + schemas.ChunkQuantum - 1) / schemas.ChunkQuantum * schemas.ChunkQuantum
}

// padChunk pads to a multiple of schemas.ChunkQuantum.
func padChunk(content []byte) []byte {
	return padTo(content, chunkSize(len(content)))
}

// LiveChunk is an opened chunk.
type LiveChunk struct {
	// Attempt and Worker name the run. NewRun says that this chunk begins to report a run other than the one before:
	// what was shown so far is void.
	Attempt int
	Worker  schemas.WorkerID
	NewRun  bool
	// Events are the JSON objects of server-sent events.
	Events [][]byte
	// Missed says that chunks of the run before this one were lost; the result will have everything.
	Missed bool
	// Last says that the run sends no more.
	Last bool
}

// ChunkOpener opens the live chunks of one job. It is for one goroutine.
type ChunkOpener struct {
	tenant  *Tenant
	job     schemas.JobID
	sealed  schemas.Hash
	current run
	key     [secretSize]byte
	next    uint32
	ended   bool
}

// ChunkOpener prepares to open the live chunks of a job that was sealed as envelope.
func (t *Tenant) ChunkOpener(job schemas.JobID, envelope schemas.Hash) *ChunkOpener {
	return &ChunkOpener{tenant: t, job: job, sealed: envelope}
}

// Open opens the next chunk that arrived. Chunks of an earlier attempt than the current one, and chunks seen before, are
// KindReplayed; a chunk of a run whose first chunks were lost is KindUnavailable until the encapsulation is repeated; the
// caller skips both. Anything else that does not open is KindSealed.
func (o *ChunkOpener) Open(frame []byte) (LiveChunk, error) {
	sealed, err := schemas.ParseSealedChunk(frame)
	if err != nil {
		return LiveChunk{}, err
	}
	r := run{job: o.job, envelope: o.sealed, attempt: sealed.Attempt, worker: sealed.Worker, index: sealed.Index}
	same := r == o.current
	switch {
	case sealed.Attempt < o.current.attempt, same && (sealed.Seq < o.next || o.ended):
		return LiveChunk{}, &schemas.Error{Kind: schemas.KindReplayed, Message: "is a chunk of the past"}
	case !same && len(sealed.Enc) == 0:
		return LiveChunk{}, &schemas.Error{Kind: schemas.KindUnavailable, Message: "the first chunks of this run were lost"}
	}
	key := o.key
	if !same {
		if key, err = o.runKey(&r, sealed.Enc); err != nil {
			return LiveChunk{}, err
		}
	}
	chunk, err := openChunk(key, sealed)
	if err != nil {
		return LiveChunk{}, err
	}
	live := LiveChunk{
		Attempt: int(r.attempt), Worker: r.worker, NewRun: !same, Events: chunk.Events, Last: sealed.Last,
		Missed: same && sealed.Seq != o.next || !same && sealed.Seq != 0,
	}
	o.current, o.key, o.next, o.ended = r, key, sealed.Seq+1, sealed.Last
	return live, nil
}

// runKey derives the chunk key of a run.
func (o *ChunkOpener) runKey(r *run, enc []byte) ([secretSize]byte, error) {
	secret, err := o.tenant.encapsulated(enc)
	if err != nil {
		return secret, err
	}
	return r.key(labelChunk, secret, o.tenant.replySecret(o.job))
}

// openChunk opens one sealed chunk.
func openChunk(key [secretSize]byte, sealed *schemas.SealedChunk) (*schemas.Chunk, error) {
	nonce := frameNonce(sealed.Seq, sealed.Last)
	padded, err := gcm(key).Open(nil, nonce[:], sealed.Payload, nil)
	if err != nil {
		return nil, errSealed()
	}
	plain, err := unpadTo(padded, chunkSize)
	if err != nil {
		return nil, err
	}
	chunk, err := schemas.ParseChunk(plain)
	if err != nil {
		return nil, errSealed()
	}
	return chunk, nil
}
