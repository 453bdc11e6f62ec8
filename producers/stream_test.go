package producers_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// slowly emits many events with room for a tick between them, so that they become many chunks.
func slowly(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
	text := ""
	for i := range 40 {
		word := strings.Repeat(string(rune('a'+i%26)), 1200) + " " // larger than a chunk's padding
		text += word
		emit(producerstest.Chunk("tiny", word, ""))
		for range 30 { // enough words to fill a chunk now and then
			emit(producerstest.Chunk("tiny", "x ", ""))
			text += "x "
		}
	}
	emit(producerstest.Chunk("tiny", "", "stop"))
	return producerstest.Chat("tiny", text)
}

// TestStreamSurvivesLostChunks loses live chunks at different places: the reader ends up with the whole answer.
func TestStreamSurvivesLostChunks(t *testing.T) {
	t.Parallel()
	for name, drop := range map[string]func(int) bool{
		"none": func(int) bool { return false }, "first": func(n int) bool { return n == 0 }, "second": func(n int) bool { return n == 1 },
		"all": func(int) bool { return true }, "every other": func(n int) bool { return n%2 == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := producerstest.New(t)
			n.DropChunk = drop
			n.Work(t, slowly)
			c := n.Client(t)
			text, finish := "", 0
			var answer *producers.Answer
			for e, err := range c.Stream(patience(t), producers.Job{Body: producerstest.Ask("x", `,"stream":true`)}) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Answer != nil {
					answer = e.Answer
					continue
				}
				text += delta(t, e.Data)
				finish += strings.Count(string(e.Data), `"finish_reason":"stop"`)
			}
			if answer == nil || text != answer.Text() || finish != 1 {
				t.Errorf("read %d bytes with %d ends, answer %v", len(text), finish, answer)
			}
		})
	}
}

// TestStreamTellsOfAnotherRun runs a job twice with different answers after the first was half streamed: the reader is
// told, and is never given a mixture.
func TestStreamTellsOfAnotherRun(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Work(t, func(_ context.Context, _ *schemas.Request, emit func([]byte)) schemas.Result {
		emit(producerstest.Chunk("tiny", "one answer", ""))
		return producerstest.Chat("tiny", "quite another")
	})
	c := n.Client(t)
	var last error
	for e, err := range c.Stream(patience(t), producers.Job{Body: producerstest.Ask("x", `,"stream":true`)}) {
		if last = err; e.Answer != nil {
			return // the chunk came after the outcome, so the reader saw one answer only
		}
	}
	if !errors.Is(last, schemas.KindEngine) {
		t.Errorf("the stream ended with %v, want KindEngine", last)
	}
}

func TestStreamOfAStoredAnswer(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	w, _ := n.Work(t, producerstest.Echo)
	c := n.Client(t)
	for range 2 {
		text := ""
		for e, err := range c.Stream(patience(t), producers.Job{Body: producerstest.Ask("x", `,"stream":true`), IdempotencyKey: "k"}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Answer == nil {
				text += delta(t, e.Data)
			}
		}
		if text != producerstest.Say("x") {
			t.Errorf("text = %q", text)
		}
	}
	if w.Runs() != 1 {
		t.Errorf("%d runs", w.Runs())
	}
}

func TestStreamLeftEarly(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Work(t, slowly)
	c := n.Client(t)
	for range c.Stream(patience(t), producers.Job{Body: producerstest.Ask("x", `,"stream":true`)}) {
		break
	}
	ctx, cancel := context.WithCancel(patience(t))
	cancel()
	for _, err := range c.Stream(ctx, producers.Job{Body: producerstest.Ask("x", `,"stream":true`)}) {
		if err == nil {
			t.Error("an event after the context had ended")
		}
	}
}
