//go:build !worker

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/openai"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// The stream that is measured.
const (
	streamEvents = 50
	streamSize   = 128
	// streamChunks is how many chunks carry it: a tick of 100 ms takes what 50 tokens/s make meanwhile.
	streamChunks = 10
	// tokenTime is the time between two events at 50 tokens/s; streamsAtOnce run beside each other.
	tokenTime     = 20 * time.Millisecond
	streamsAtOnce = 8
)

// streamEvent is one event: a chat chunk of streamSize bytes.
var streamEvent = func() []byte {
	const form = `{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"%s"}}]}`
	return fmt.Appendf(nil, form, bytes.Repeat([]byte("x"), streamSize-len(form)+2))
}()

// liveStream is one job's live chunks, sealed and opened.
type liveStream struct {
	job      *enclave.OpenJob
	tenant   *enclave.Tenant
	envelope schemas.Hash
	chunks   [][]byte
}

// seal seals the stream as a worker does.
func (l *liveStream) seal() error {
	l.chunks = l.chunks[:0]
	w, err := l.job.Chunks(time.Hour, func(sealed []byte) error {
		l.chunks = append(l.chunks, sealed)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range streamEvents {
		if err := w.Write(streamEvent); err != nil {
			return err
		}
		if n := i + 1; n%(streamEvents/streamChunks) == 0 && n < streamEvents {
			w.Flush()
		}
	}
	return w.Close()
}

// open opens what seal sealed as a tenant does.
func (l *liveStream) open() error {
	opener := l.tenant.ChunkOpener(l.job.Attributes.ID, l.envelope)
	events := 0
	for _, sealed := range l.chunks {
		live, err := opener.Open(sealed)
		if err != nil {
			return err
		}
		events += len(live.Events)
	}
	if events != streamEvents || len(l.chunks) != streamChunks {
		return &schemas.Error{Kind: schemas.KindInternal, Message: fmt.Sprintf("%d events in %d chunks", events, len(l.chunks))}
	}
	return nil
}

// stubCost is the CPU of one stream from a stub engine's server to the worker.
type stubCost struct{ fast, paced time.Duration }

// benchStub measures a stub engine: a server that sends the stream over HTTP, and the worker's own adapter that reads it.
func benchStub(ctx context.Context, d time.Duration) (c stubCost, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return c, schemas.Errorf(schemas.KindUnavailable, "stub engine: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(serveStub), ReadHeaderTimeout: time.Minute}
	go server.Serve(listener) //nolint:errcheck // it ends with Close
	defer server.Close()
	engine, err := openai.New(openai.Options{URL: "http://" + listener.Addr().String(), Model: "m", Flavour: "openai", Poll: time.Hour})
	if err != nil {
		return c, err
	}
	defer engine.Close()
	if c.fast, err = readStreams(ctx, engine, 1, "fast", d); err != nil {
		return c, err
	}
	c.paced, err = readStreams(ctx, engine, streamsAtOnce, "paced", d)
	return c, err
}

// serveStub is the server: it sends the stream for a request whose user is "fast", and slowly otherwise.
func serveStub(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		io.WriteString(w, `{"data":[{"id":"m"}]}`) //nolint:errcheck // the engine asks again
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	pace := time.NewTicker(tokenTime)
	defer pace.Stop()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	for range streamEvents {
		if !bytes.Contains(body, []byte(`"fast"`)) {
			<-pace.C
		}
		fmt.Fprintf(w, "data: %s\n\n", streamEvent)
		if out.Flush() != nil {
			return
		}
	}
	const end = `{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":50,"total_tokens":51}}`
	io.WriteString(w, "data: "+end+"\n\ndata: [DONE]\n\n") //nolint:errcheck // a reader who has gone away is no failure
}

// readStreams reads streams for a while, some beside each other, and returns the process's CPU time for one.
func readStreams(ctx context.Context, engine consumers.Engine, atOnce int, user string, d time.Duration) (time.Duration, error) {
	read := func(ctx context.Context) error {
		s, err := engine.Submit(ctx, &consumers.Request{
			ID: "bench", URL: consumers.PathChat, Body: fmt.Appendf(nil, `{"model":"m","stream":true,"user":%q,"messages":[{"role":"user","content":"x"}]}`, user),
		})
		if err != nil {
			return err
		}
		defer s.Close()
		for {
			if _, err := s.Next(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	if err := read(ctx); err != nil { // connects
		return 0, err
	}
	done, start := 0, processClock()
	for begin := time.Now(); done == 0 || time.Since(begin) < d; done += atOnce {
		group, ctx := errgroup.WithContext(ctx)
		for range atOnce {
			group.Go(func() error { return read(ctx) })
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
	}
	return (processClock() - start) / time.Duration(done), nil
}
