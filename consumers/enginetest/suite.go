package enginetest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Subject is an engine under test.
type Subject struct {
	Engine consumers.Engine
	// Question has this greedy Answer, which has at least two words and eight letters.
	Question, Answer string
	// Slots is how many requests run together.
	Slots int
}

// patience bounds every wait of the suite. It is only ever reached by an engine that fails.
const patience = 30 * time.Second

// Run holds engines to the contract. open starts a fresh engine and ends it with the test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for name, f := range map[string]func(*testing.T, Subject){
		"Info": testInfo, "Answer": testAnswer, "Stream": testStream, "Limits": testLimits, "Unicode": testUnicode,
		"CancelByClose": testCancelByClose, "CancelByContext": testCancelByContext, "Deadline": testDeadline,
		"Concurrency": testConcurrency, "Refusals": testRefusals, "TooLong": testTooLong, "Count": testCount,
		"Drain": testDrain, "Close": testClose, "Completion": testCompletion, "Choices": testChoices,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t))
		})
	}
}

func testInfo(t *testing.T, s Subject) {
	i, err := s.Engine.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i.Model == "" || i.Flavour == "" || i.Context <= 0 || i.Fingerprint == "" || !slices.Contains(i.Endpoints, consumers.PathChat) {
		t.Errorf("%+v", i)
	}
	c := s.Engine.Capacity()
	if !c.Healthy || c.Draining || c.Free < s.Slots || c.Running != 0 || time.Since(c.At) > time.Minute {
		t.Errorf("%+v", c)
	}
}

// checkUsage compares Done's counts with those in the body.
func checkUsage(t *testing.T, a *Answer) {
	t.Helper()
	u, b := a.Done.Usage, a.Response.Usage
	if !a.UsageExact || b == nil || u.Prompt+u.Cached != b.Prompt || u.Completion+u.Reasoning != b.Completion || b.Total != b.Prompt+b.Completion ||
		u.Cached != b.Details.Cached || b.Prompt == 0 {
		t.Errorf("usage %+v (exact %v), in the body %+v", u, a.UsageExact, b)
	}
}

func testAnswer(t *testing.T, s Subject) {
	a := Ask(t, s.Engine, Chat("any-name", s.Question))
	if a.Text() != s.Answer || a.FinishReason != "stop" || len(a.Chunks) > 0 {
		t.Errorf("answer %q (%s) with %d chunks, want %q", a.Text(), a.FinishReason, len(a.Chunks), s.Answer)
	}
	r := a.Response
	if r.Object != "chat.completion" || r.Model != "any-name" || r.ID == "" || len(r.Choices) != 1 || r.Choices[0].Message.Role != "assistant" ||
		r.Choices[0].Finish == nil || *r.Choices[0].Finish != "stop" {
		t.Errorf("%s", a.Body)
	}
	if a.Status != 200 || a.ContentType != "application/json" || a.Fingerprint == "" || a.TTFT <= 0 || a.Total < a.TTFT {
		t.Errorf("%+v", a.Done)
	}
	checkUsage(t, a)
	if a.Done.Usage.Completion == 0 {
		t.Error("an answer without tokens")
	}
}

func testStream(t *testing.T, s Subject) {
	plain := Ask(t, s.Engine, Chat("m", s.Question).With("stream", true))
	withUsage := Ask(t, s.Engine, Chat("m", s.Question).With("stream", true).With("stream_options", map[string]any{"include_usage": true}))
	for name, a := range map[string]*Answer{"plain": plain, "with usage": withUsage} {
		if a.Streamed() != s.Answer || a.Text() != s.Answer {
			t.Errorf("%s: chunks %q, body %q, want %q", name, a.Streamed(), a.Text(), s.Answer)
		}
		checkUsage(t, a)
		if len(a.Chunks) < 2 {
			t.Fatalf("%s: %d chunks", name, len(a.Chunks))
		}
		finished := 0
		for _, c := range a.Chunks {
			if c.Object != "chat.completion.chunk" || c.Model != "m" || c.ID != a.Chunks[0].ID {
				t.Errorf("%s: %+v", name, c)
			}
			for _, x := range c.Choices {
				if x.Finish != nil {
					finished++
				}
			}
		}
		if finished != 1 || a.Chunks[0].Choices[0].Delta.Role != "assistant" {
			t.Errorf("%s: %d chunks with a finish reason, first %+v", name, finished, a.Chunks[0])
		}
		usages := slices.DeleteFunc(slices.Clone(a.Chunks), func(c Response) bool { return c.Usage == nil })
		if want := map[string]int{"with usage": 1}[name]; len(usages) != want {
			t.Errorf("%s: %d chunks with usage, want %d", name, len(usages), want)
		}
	}
}

func testLimits(t *testing.T, s Subject) {
	short := Ask(t, s.Engine, Chat("m", s.Question).With("max_completion_tokens", 2))
	if short.FinishReason != "length" || short.Done.Usage.Completion != 2 || !strings.HasPrefix(s.Answer, short.Text()) {
		t.Errorf("%q (%s), %+v", short.Text(), short.FinishReason, short.Done.Usage)
	}
	at := len(s.Answer) / 2
	for !strings.Contains(s.Answer[at:], " ") && at > 0 { // begin the stop string inside a word, end it in another
		at--
	}
	stop := s.Answer[at : at+min(4, len(s.Answer)-at)]
	before, _, _ := strings.Cut(s.Answer, stop)
	for _, b := range []Body{Chat("m", s.Question).With("stop", stop), Chat("m", s.Question).With("stop", []string{"☃", stop}).With("stream", true)} {
		a := Ask(t, s.Engine, b)
		if a.Text() != before || a.FinishReason != "stop" || len(a.Chunks) > 0 && a.Streamed() != before {
			t.Errorf("stop %q: %q %q (%s), want %q", stop, a.Text(), a.Streamed(), a.FinishReason, before)
		}
	}
}

func testUnicode(t *testing.T, s Subject) {
	for _, q := range []string{"日本語テキスト", "emoji 😀👩‍👩‍👧 and é", "a\tb", "\u0000", "\u202ertl", strings.Repeat("é", 100)} {
		a := Ask(t, s.Engine, Chat("m", q).With("stream", true).With("max_completion_tokens", 20))
		if a.Streamed() != a.Text() {
			t.Errorf("%q: chunks %q, body %q", q, a.Streamed(), a.Text())
		}
	}
}

// endless is a request that runs until it is stopped, or at least for hundreds of tokens.
func endless(s Subject) Body {
	return Chat("m", s.Question).With("stream", true).With("ignore_eos", true).With("max_completion_tokens", 400)
}

// begin submits a request and waits for its first text.
func begin(t *testing.T, ctx context.Context, s Subject, r *consumers.Request) consumers.Stream {
	t.Helper()
	stream, err := s.Engine.Submit(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	for range 3 {
		if _, err := stream.Next(); err != nil {
			t.Fatal(err)
		}
	}
	return stream
}

// finish reads until the stream fails, and says how.
func finish(t *testing.T, stream consumers.Stream) schemas.Kind {
	t.Helper()
	end := time.AfterFunc(patience, func() { panic("the stream does not end") })
	defer end.Stop()
	for {
		if _, err := stream.Next(); err != nil {
			if _, again := stream.Next(); schemas.KindOf(again) != schemas.KindOf(err) {
				t.Errorf("the error changes from %v to %v", err, again)
			}
			if errors.Is(err, io.EOF) {
				t.Error("the request ran to its end")
			}
			return schemas.KindOf(err)
		}
	}
}

// calm waits until nothing runs any more.
func calm(t *testing.T, s Subject) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.Engine.Capacity().Running > 0; {
		select {
		case <-s.Engine.Watch():
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("still running: %+v", s.Engine.Capacity())
		}
	}
}

func testCancelByClose(t *testing.T, s Subject) {
	stream := begin(t, t.Context(), s, &consumers.Request{URL: consumers.PathChat, Body: endless(s).JSON(t)})
	waiting := make(chan schemas.Kind, 1)
	go func() { waiting <- finish(t, stream) }()
	stream.Close()
	stream.Close()
	if k := <-waiting; k != schemas.KindCancelled {
		t.Errorf("kind %v", k)
	}
	if teller, ok := stream.(interface {
		Usage() (schemas.Usage, bool)
	}); ok {
		if u, exact := teller.Usage(); exact && (u.Completion == 0 || u.Prompt+u.Cached == 0) {
			t.Errorf("a cancelled request cost %+v", u)
		}
	}
	calm(t, s)
}

func testCancelByContext(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := begin(t, ctx, s, &consumers.Request{URL: consumers.PathChat, Body: endless(s).JSON(t)})
	cancel()
	if k := finish(t, stream); k != schemas.KindCancelled {
		t.Errorf("kind %v", k)
	}
	calm(t, s)
	if a := Ask(t, s.Engine, Chat("m", s.Question)); a.Text() != s.Answer {
		t.Errorf("after a cancelled request: %q", a.Text())
	}
}

func testDeadline(t *testing.T, s Subject) {
	r := &consumers.Request{URL: consumers.PathChat, Body: endless(s).JSON(t), Deadline: time.Now().Add(-time.Second)}
	if _, err := s.Engine.Submit(t.Context(), r); schemas.KindOf(err) != schemas.KindExpired {
		t.Errorf("passed: %v", err)
	}
	// Streams are opened until one is still running when its deadline comes: the engine may be faster than the clock.
	for wait := 40 * time.Millisecond; wait > time.Millisecond; wait /= 2 {
		r.Deadline = time.Now().Add(wait)
		stream, err := s.Engine.Submit(t.Context(), r)
		if err == nil {
			_, err = Read(stream)
		}
		if k := schemas.KindOf(err); k == schemas.KindExpired {
			calm(t, s)
			return
		} else if err != nil {
			t.Fatalf("%v", err)
		}
	}
	t.Error("no deadline ended a request")
}

func testConcurrency(t *testing.T, s Subject) {
	var wg sync.WaitGroup
	for range 3 * s.Slots {
		wg.Go(func() {
			for {
				a, err := TryAsk(t, s.Engine, Chat("m", s.Question))
				switch {
				case schemas.KindOf(err) == schemas.KindBusy:
					time.Sleep(time.Millisecond) // what a caller does who was told to try later
					continue
				case err != nil:
					t.Error(err)
				case a.Text() != s.Answer:
					t.Errorf("%q", a.Text())
				}
				return
			}
		})
	}
	wg.Wait()
	calm(t, s)
	select {
	case <-s.Engine.Watch():
	case <-time.After(patience):
		t.Error("no signal that capacity has grown")
	}
	if c := s.Engine.Capacity(); c.Free < s.Slots {
		t.Errorf("%+v", c)
	}
}

func testRefusals(t *testing.T, s Subject) {
	good := Chat("m", s.Question)
	message := func(m any) Body { return good.With("messages", []any{m}) }
	for name, c := range map[string]struct {
		body  []byte
		kinds []schemas.Kind
		field string
	}{
		"not JSON":           {[]byte("{"), []schemas.Kind{schemas.KindInvalid}, ""},
		"not an object":      {[]byte("[1]"), []schemas.Kind{schemas.KindInvalid}, ""},
		"not UTF-8":          {[]byte("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}"), []schemas.Kind{schemas.KindInvalid}, ""},
		"key twice":          {[]byte(`{"model":"m","model":"n"}`), []schemas.Kind{schemas.KindInvalid}, "model"},
		"no messages":        {good.With("messages", nil).JSON(t), []schemas.Kind{schemas.KindInvalid}, "messages"},
		"empty messages":     {good.With("messages", []any{}).JSON(t), []schemas.Kind{schemas.KindInvalid}, "messages"},
		"messages no list":   {good.With("messages", "hi").JSON(t), []schemas.Kind{schemas.KindInvalid}, "messages"},
		"message no object":  {message(1).JSON(t), []schemas.Kind{schemas.KindInvalid}, "messages[0]"},
		"unknown role":       {message(map[string]any{"role": "king", "content": "x"}).JSON(t), []schemas.Kind{schemas.KindInvalid, schemas.KindUnsupported}, "messages[0].role"},
		"no content":         {message(map[string]any{"role": "user"}).JSON(t), []schemas.Kind{schemas.KindInvalid}, "messages[0].content"},
		"content a number":   {message(map[string]any{"role": "user", "content": 1}).JSON(t), []schemas.Kind{schemas.KindInvalid}, "messages[0].content"},
		"temperature NaN":    {good.With("temperature", "NaN").JSON(t), []schemas.Kind{schemas.KindInvalid}, "temperature"},
		"temperature high":   {good.With("temperature", 9).JSON(t), []schemas.Kind{schemas.KindInvalid}, "temperature"},
		"temperature beyond": {[]byte(strings.Replace(string(good.JSON(t)), `"temperature":0`, `"temperature":1e999`, 1)), []schemas.Kind{schemas.KindInvalid}, "temperature"},
		"top_p":              {good.With("top_p", 1.5).JSON(t), []schemas.Kind{schemas.KindInvalid}, "top_p"},
		"limit 0":            {good.With("max_completion_tokens", 0).JSON(t), []schemas.Kind{schemas.KindInvalid}, "max_completion_tokens"},
		"limit a fraction":   {good.With("max_completion_tokens", 1.5).JSON(t), []schemas.Kind{schemas.KindInvalid}, "max_completion_tokens"},
		"stop a number":      {good.With("stop", 5).JSON(t), []schemas.Kind{schemas.KindInvalid}, "stop"},
		"stream a string":    {good.With("stream", "yes").JSON(t), []schemas.Kind{schemas.KindInvalid}, "stream"},
	} {
		stream, err := s.Engine.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: c.body})
		if err == nil { // a server may find out only when it has begun
			_, err = Read(stream)
		}
		var e *schemas.Error
		if !errors.As(err, &e) || !slices.Contains(c.kinds, e.Kind) || strings.Trim(e.Field, `"`) != c.field {
			t.Errorf("%s: %v, want %v in %q", name, err, c.kinds, c.field)
		}
		if err != nil && strings.Contains(err.Error(), s.Question) {
			t.Errorf("%s: the error repeats the prompt: %v", name, err)
		}
	}
	if _, err := s.Engine.Submit(t.Context(), &consumers.Request{URL: "/v1/nonsense", Body: good.JSON(t)}); schemas.KindOf(err) != schemas.KindUnsupported {
		t.Errorf("unknown endpoint: %v", err)
	}
	if c := s.Engine.Capacity(); c.Running != 0 {
		t.Errorf("a refused request runs: %+v", c)
	}
}

func testTooLong(t *testing.T, s Subject) {
	info, err := s.Engine.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body  Body
		field string
	}{
		"10 MB":              {Chat("m", strings.Repeat("word ", 2<<20)), "messages"},
		"many words":         {Chat("m", strings.Repeat("the red cat ", info.Context)), "messages"},
		"answer beyond":      {Chat("m", s.Question).With("max_completion_tokens", info.Context), "max_completion_tokens"},
		"answer beyond, old": {Chat("m", s.Question).With("max_tokens", 1<<30), "max_tokens"},
	} {
		began := time.Now()
		_, err := TryAsk(t, s.Engine, c.body)
		var e *schemas.Error
		if !errors.As(err, &e) || e.Kind != schemas.KindTooLarge || e.Field != c.field {
			t.Errorf("%s: %v, want %v in %q", name, err, schemas.KindTooLarge, c.field)
		}
		for _, text := range []string{s.Question, "word word", "cat the red"} {
			if err != nil && strings.Contains(err.Error(), text) {
				t.Errorf("%s: the error repeats the prompt: %.200v", name, err)
			}
		}
		if d := time.Since(began); d > patience {
			t.Errorf("%s: refused after %v", name, d)
		}
	}
}

func testCount(t *testing.T, s Subject) {
	b := Chat("m", s.Question)
	n, exact, err := s.Engine.Count(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: b.JSON(t)})
	if err != nil || n <= 0 {
		t.Fatalf("%d %v", n, err)
	}
	a := Ask(t, s.Engine, b)
	if used := int(a.Done.Usage.Prompt + a.Done.Usage.Cached); exact && n != used {
		t.Errorf("counted %d, used %d", n, used)
	}
}

func testDrain(t *testing.T, s Subject) {
	stream := begin(t, t.Context(), s, &consumers.Request{URL: consumers.PathChat, Body: endless(s).With("max_completion_tokens", 60).JSON(t)})
	done := make(chan error, 1)
	go func() { done <- s.Engine.Drain(t.Context()) }()
	for !s.Engine.Capacity().Draining {
		time.Sleep(time.Millisecond) // until Drain has begun
	}
	if _, err := s.Engine.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: Chat("m", s.Question).JSON(t)}); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("submit while draining: %v", err)
	}
	if a, err := Read(stream); err != nil || a.FinishReason != "length" {
		t.Errorf("a running request is cut off: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if c := s.Engine.Capacity(); c.Free != 0 || !c.Draining {
		t.Errorf("%+v", c)
	}
}

func testClose(t *testing.T, s Subject) {
	stream := begin(t, t.Context(), s, &consumers.Request{URL: consumers.PathChat, Body: endless(s).JSON(t)})
	if err := s.Engine.Close(); err != nil {
		t.Error(err)
	}
	if k := finish(t, stream); k != schemas.KindUnavailable {
		t.Errorf("a running request: %v", k)
	}
	if err := s.Engine.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Engine.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: Chat("m", s.Question).JSON(t)}); !schemas.Retriable(err) {
		t.Errorf("submit after close: %v", err)
	}
}

// testChoices: several answers to one question, each whole; the question is counted once.
func testChoices(t *testing.T, s Subject) {
	const n = 3
	one := Ask(t, s.Engine, Chat("m", s.Question)).Done.Usage
	for _, stream := range []bool{false, true} {
		a := Ask(t, s.Engine, Chat("m", s.Question).With("n", n).With("stream", stream))
		if len(a.Response.Choices) != n {
			t.Fatalf("%d choices: %s", len(a.Response.Choices), a.Body)
		}
		for i, c := range a.Response.Choices {
			if c.Index != i || c.Message.Content != s.Answer || c.Finish == nil || *c.Finish != "stop" || stream && a.StreamedChoice(i) != s.Answer {
				t.Errorf("choice %d: %+v, chunks %q", i, c, a.StreamedChoice(i))
			}
		}
		checkUsage(t, a)
		if u := a.Done.Usage; u.Prompt+u.Cached != one.Prompt+one.Cached || u.Completion != n*one.Completion {
			t.Errorf("%d choices cost %+v, one %+v", n, u, one)
		}
	}
}

func testCompletion(t *testing.T, s Subject) {
	body := Body{"model": "m", "prompt": s.Question, "max_tokens": 8, "temperature": 0}
	for _, b := range []Body{body, body.With("stream", true)} {
		stream, err := s.Engine.Submit(t.Context(), &consumers.Request{URL: consumers.PathCompletions, Body: b.JSON(t)})
		if err != nil {
			t.Fatal(err)
		}
		a, err := Read(stream)
		if err != nil {
			t.Fatal(err)
		}
		if a.Response.Object != "text_completion" || len(a.Response.Choices) != 1 || a.Response.Choices[0].Finish == nil || len(a.Chunks) > 0 && a.Streamed() != a.Text() {
			t.Errorf("%s", a.Body)
		}
		checkUsage(t, a)
	}
}
