package stub

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// body asks for a stream or not.
func body(stream bool) []byte {
	if stream {
		return []byte(`{"stream":true}`)
	}
	return []byte(`{}`)
}

// read collects an answer and holds what was streamed against the whole.
func read(s consumers.Stream) (deltas int, done *consumers.Done, err error) {
	var said, reason string
	for {
		e, err := s.Next()
		switch {
		case errors.Is(err, io.EOF):
			if deltas > 0 && (said != text(done.Body) || reason != "stop") {
				return deltas, nil, errors.New("the deltas do not add up to the answer")
			}
			return deltas, done, nil
		case err != nil:
			return deltas, nil, err
		case e.Done != nil:
			done = e.Done
		default:
			deltas++
			if len(e.Delta) != DefaultChunkSize {
				return deltas, nil, errors.New("a delta of another size")
			}
			said += text(e.Delta)
			reason = finished(e.Delta)
		}
	}
}

// choice is what both forms of an answer have.
type choice struct {
	Choices []struct {
		Delta, Message struct{ Content string }
		Reason         string `json:"finish_reason"`
	}
}

// text is what a delta or an answer says.
func text(b []byte) string {
	var c choice
	if err := json.Unmarshal(b, &c); err != nil || len(c.Choices) != 1 {
		return "no choice: " + string(b)
	}
	return c.Choices[0].Delta.Content + c.Choices[0].Message.Content
}

// finished is why an answer ended, empty before its end.
func finished(b []byte) string {
	var c choice
	if err := json.Unmarshal(b, &c); err != nil || len(c.Choices) != 1 {
		return ""
	}
	return c.Choices[0].Reason
}

// TestEngineAnswers: the figures of the pipeline are stated for exactly this.
func TestEngineAnswers(t *testing.T) {
	t.Parallel()
	e := New(Options{})
	for _, stream := range []bool{false, true} {
		s, err := e.Submit(t.Context(), &consumers.Request{Body: body(stream)})
		if err != nil {
			t.Fatal(err)
		}
		deltas, done, err := read(s)
		if err != nil || done == nil || done.Usage != DefaultUsage() || !done.UsageExact || done.Status != 200 {
			t.Fatalf("stream %v: %+v, %v", stream, done, err)
		}
		if want := map[bool]int{true: DefaultChunks}[stream]; deltas != want {
			t.Errorf("stream %v: %d deltas, want %d", stream, deltas, want)
		}
	}
	u := DefaultUsage()
	if u.Prompt+u.Cached != 34 || u.Completion+u.Reasoning != 100 || u.Cached != 11 || u.Reasoning != 10 {
		t.Errorf("usage %+v is not 34/100/10/11", u)
	}
}

// TestEngineKeepsItsSlots: full is refused, and a place that is left is told.
func TestEngineKeepsItsSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{Slots: 2, Took: time.Second, Chunks: 4})
		var open []consumers.Stream
		for range 2 {
			s, err := e.Submit(t.Context(), &consumers.Request{Body: body(false)})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, s)
		}
		if _, err := e.Submit(t.Context(), &consumers.Request{}); !errors.Is(err, schemas.KindBusy) {
			t.Errorf("a third request: %v", err)
		}
		if c := e.Capacity(); c.Free != 0 || c.Running != 2 {
			t.Errorf("capacity %+v", c)
		}
		begin := time.Now()
		if _, done, err := read(open[0]); err != nil || done == nil {
			t.Errorf("answer %v, %v", done, err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("took %v, want 1 s", took)
		}
		<-e.Watch()
		if c := e.Capacity(); c.Free != 1 {
			t.Errorf("capacity %+v", c)
		}
		open[1].Close()
	})
}

// TestEngineStops: by context, by Close, by the deadline; what was computed until then is told.
func TestEngineStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{Took: 50 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		s, err := e.Submit(ctx, &consumers.Request{Body: body(true)})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Second, cancel)
		if _, _, err := read(s); !errors.Is(err, schemas.KindCancelled) {
			t.Errorf("after a cancel: %v", err)
		}
		u, exact := s.(interface{ Usage() (schemas.Usage, bool) }).Usage()
		if full := DefaultUsage(); !exact || u.Prompt != full.Prompt || u.Completion == 0 || u.Completion >= full.Completion {
			t.Errorf("usage of a cancelled request: %+v, exact %v", u, exact)
		}
		s, err = e.Submit(t.Context(), &consumers.Request{Body: body(true), Deadline: time.Now().Add(5 * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(s); !errors.Is(err, schemas.KindExpired) {
			t.Errorf("after the deadline: %v", err)
		}
	})
}

// TestEngineDrains: nothing new is admitted, and Drain returns when the last request has ended.
func TestEngineDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{Took: 10 * time.Second, Chunks: 4})
		s, err := e.Submit(t.Context(), &consumers.Request{Body: body(false)})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _, _ = read(s) }()
		synctest.Wait()
		begin := time.Now()
		if err := e.Drain(t.Context()); err != nil || time.Since(begin) != 10*time.Second {
			t.Errorf("drained after %v: %v", time.Since(begin), err)
		}
		if _, err := e.Submit(t.Context(), &consumers.Request{}); !errors.Is(err, schemas.KindUnavailable) {
			t.Errorf("after the drain: %v", err)
		}
	})
}
