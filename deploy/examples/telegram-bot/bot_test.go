package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

const testToken = "123:secret"

// fakeTelegram is the Bot API as far as the bot uses it: it delivers updates until they are confirmed and keeps what is
// sent.
type fakeTelegram struct {
	mu      sync.Mutex // guards the fields below
	updates []update
	sent    []string
	// refuse answers the next calls of a method with an error of the API.
	refuse map[string][]apiError
	// delivered counts how often each update was handed out.
	delivered map[int64]int
}

// ServeHTTP implements http.Handler.
func (f *fakeTelegram) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method, ok := strings.CutPrefix(r.URL.Path, "/bot"+testToken+"/")
	if !ok {
		answer(w, map[string]any{"ok": false, "error_code": 401, "description": "Unauthorized"})
		return
	}
	var p struct {
		Offset int64  `json:"offset"`
		Chat   int64  `json:"chat_id"`
		Text   string `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		answer(w, map[string]any{"ok": false, "error_code": 400, "description": "Bad Request"})
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if list := f.refuse[method]; len(list) > 0 {
		f.refuse[method] = list[1:]
		answer(w, map[string]any{
			"ok": false, "error_code": list[0].Code, "description": list[0].Description, "parameters": map[string]any{"retry_after": int(list[0].RetryAfter.Seconds())},
		})
		return
	}
	switch method {
	case "getUpdates":
		list := []update{}
		for _, u := range f.updates {
			if u.ID >= p.Offset {
				f.delivered[u.ID]++
				list = append(list, u)
			}
		}
		answer(w, map[string]any{"ok": true, "result": list})
	case "sendMessage":
		if n := utf8.RuneCountInString(p.Text); n == 0 || n > maxText {
			answer(w, map[string]any{"ok": false, "error_code": 400, "description": "Bad Request: message text is empty or too long"})
			return
		}
		f.sent = append(f.sent, fmt.Sprint(p.Chat, ": ", p.Text))
		answer(w, map[string]any{"ok": true, "result": map[string]any{"message_id": 1000}})
	}
}

// answer writes JSON.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// say adds an update with a message.
func (f *fakeTelegram) say(chat int64, name, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := int64(len(f.updates) + 1)
	m := &message{ID: 100 + id, Text: text}
	m.From.Name, m.Chat.ID = name, chat
	f.updates = append(f.updates, update{id, m})
}

// waitSent waits until n messages were sent and returns them.
func (f *fakeTelegram) waitSent(t *testing.T, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(producerstest.Wait); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		f.mu.Lock()
		sent := append([]string(nil), f.sent...)
		f.mu.Unlock()
		if len(sent) >= n {
			return sent
		}
	}
	t.Fatalf("%d messages were not sent in time", n)
	return nil
}

// setup runs a bot against a fake Telegram and a whole network.
func setup(t *testing.T, engine producerstest.Engine) (*fakeTelegram, *producerstest.Worker) {
	t.Helper()
	f := &fakeTelegram{delivered: map[int64]int{}, refuse: map[string][]apiError{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	n := producerstest.New(t)
	w, _ := n.Work(t, engine)
	b := &bot{
		api: &telegram{base: server.URL, token: testToken, http: server.Client()}, client: n.Client(t), model: producerstest.ModelName, size: 200,
		log: slog.New(slog.DiscardHandler), threads: map[int64][]message{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the bot ended with %v", err)
		}
	})
	return f, w
}

func TestSummaryAndTranslation(t *testing.T) {
	t.Parallel()
	f, w := setup(t, producerstest.Echo)
	f.say(7, "Ann", "Shall we meet at nine?")
	f.say(8, "Eve", "A message of another chat")
	f.say(7, "Bob", "Ten is better.")
	f.say(7, "Ann", "/summary@some_bot")
	sent := f.waitSent(t, 1)
	if sent[0] != "7: "+producerstest.Say("Ann: Shall we meet at nine?\nBob: Ten is better.\n") {
		t.Errorf("summary = %q", sent[0])
	}
	f.say(7, "Ann", "/summary")
	f.say(7, "Bob", "Bonjour")
	f.say(7, "Ann", "/translate en")
	f.say(7, "Ann", "/translate")
	sent = f.waitSent(t, 4)
	if !strings.Contains(sent[1], "Nothing was said") || sent[2] != "7: "+producerstest.Say("Bonjour") || !strings.Contains(sent[3], "/translate fr") {
		t.Errorf("sent %q", sent)
	}
	if w.Runs() != 2 {
		t.Errorf("%d jobs, want 2", w.Runs())
	}
}

// TestLongThread has more text than one request takes: the thread is cut and put together.
func TestLongThread(t *testing.T) {
	t.Parallel()
	f, w := setup(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		return producerstest.Chat("tiny", "short")
	})
	for i := range 30 {
		f.say(1, "Ann", fmt.Sprintf("Message number %d is not a short one.", i))
	}
	f.say(1, "Bob", "/summary")
	if sent := f.waitSent(t, 1); sent[0] != "1: short" {
		t.Errorf("summary = %q", sent)
	}
	if w.Runs() < 6 {
		t.Errorf("%d jobs for a long thread", w.Runs())
	}
}

func TestFailureIsTold(t *testing.T) {
	t.Parallel()
	f, _ := setup(t, func(context.Context, *schemas.Request, func([]byte)) schemas.Result {
		return schemas.Failure(&schemas.Error{Kind: schemas.KindPoison, Message: "broke on every attempt"})
	})
	f.say(1, "Ann", "hello")
	f.say(1, "Ann", "/summary")
	if sent := f.waitSent(t, 1); !strings.Contains(sent[0], "did not work") {
		t.Errorf("sent %q", sent)
	}
}

// TestBusyTelegram has Telegram refuse for a moment, as it does when a bot is too quick.
func TestBusyTelegram(t *testing.T) {
	t.Parallel()
	f, _ := setup(t, producerstest.Echo)
	f.mu.Lock()
	f.refuse["sendMessage"] = []apiError{{Code: 429, Description: "Too Many Requests", RetryAfter: time.Second}}
	f.refuse["getUpdates"] = []apiError{{Code: 502, Description: "Bad Gateway"}}
	f.mu.Unlock()
	f.say(1, "Ann", "hello")
	f.say(1, "Ann", "/translate fr")
	if sent := f.waitSent(t, 1); sent[0] != "1: "+producerstest.Say("hello") {
		t.Errorf("sent %q", sent)
	}
}

// TestRedelivery answers a command that Telegram delivers twice to two lives of the bot: it is one job.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	w, _ := n.Work(t, producerstest.Echo)
	client := n.Client(t)
	f := &fakeTelegram{delivered: map[int64]int{}}
	server := httptest.NewServer(f)
	defer server.Close()
	command := &message{ID: 5, Text: "/translate fr", ReplyTo: &message{Text: "good evening"}}
	for range 2 {
		b := &bot{
			api: &telegram{base: server.URL, token: testToken, http: server.Client()}, client: client, model: "tiny", size: 200,
			log: slog.New(slog.DiscardHandler), threads: map[int64][]message{},
		}
		b.handle(t.Context(), command)
	}
	if sent := f.waitSent(t, 2); sent[0] != sent[1] || w.Runs() != 1 {
		t.Errorf("sent %q in %d runs", sent, w.Runs())
	}
}

func TestTokenIsRefusedAndNeverShown(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&fakeTelegram{})
	api := &telegram{base: server.URL, token: "999:other", http: server.Client()}
	b := &bot{api: api, log: slog.New(slog.DiscardHandler), threads: map[int64][]message{}}
	if err := b.run(t.Context()); err == nil || !strings.Contains(err.Error(), "token is refused") {
		t.Errorf("run = %v", err)
	}
	server.Close()
	if _, err := api.updates(t.Context(), 0); err == nil || strings.Contains(err.Error(), "999:other") {
		t.Errorf("an unreachable API = %v", err)
	}
	if err := run(t.Context(), settings{}, ""); err == nil {
		t.Error("ran without a token")
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "short", strings.Repeat("é", 9000), strings.Repeat("line\n", 2000), strings.Repeat("x", 8192)} {
		list := parts(text, maxText)
		if strings.TrimSpace(strings.Join(list, "")) != strings.TrimSpace(text) {
			t.Errorf("the parts of %d bytes are not the text", len(text))
		}
		for _, p := range list {
			if utf8.RuneCountInString(p) > maxText || !utf8.ValidString(p) {
				t.Errorf("a part of %d characters", utf8.RuneCountInString(p))
			}
		}
	}
}
