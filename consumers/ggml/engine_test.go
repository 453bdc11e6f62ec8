package ggml

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/consumers/ggml/tiny"
	"github.com/cocoon-network/cocoon/schemas"
)

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError) // ollama's packages log to the default logger
	goleak.VerifyTestMain(m)
}

// weights is the model that comes with the program.
func weights(t testing.TB) []byte {
	t.Helper()
	b, err := fs.ReadFile(tiny.FS(), tiny.File)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// open starts an engine with the tiny model.
func openTiny(t testing.TB, o Options) *Engine {
	t.Helper()
	return openModel(t, weights(t), o)
}

func openModel(t testing.TB, b []byte, o Options) *Engine {
	t.Helper()
	o.Threads = 1
	o.GPU = o.GPU || testsOnGPU()
	e, err := OpenBytes(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// testsOnGPU reports whether this run is one for a machine with a GPU; see deploy/gpu.
func testsOnGPU() bool { return os.Getenv("COCOON_TEST_GPU") != "" }

// TestNoGPU: an engine that shall use a GPU does not fall back to the CPU, and leaves the other engines of the process alone.
func TestNoGPU(t *testing.T) {
	t.Parallel()
	if testsOnGPU() {
		t.Skip("this machine has a GPU")
	}
	e := openTiny(t, Options{Slots: 1})
	for range 5 {
		if _, err := OpenBytes(t.Context(), weights(t), Options{Slots: 1, GPU: true}); schemas.KindOf(err) != schemas.KindUnsupported {
			t.Errorf("%v", err)
		}
		if _, _, err := ask(t, e, completion("one", 5)); err != nil {
			t.Error(err)
		}
	}
}

// randomModel is a model with random weights.
func randomModel(t testing.TB, s gguf.Shape) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gguf.Random(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// turn is one message.
type turn map[string]string

// chatBody is a greedy request.
func chatBody(max int, messages ...turn) []byte {
	b, _ := json.Marshal(map[string]any{"model": "tiny", "messages": messages, "temperature": 0, "max_completion_tokens": max})
	return b
}

// reply is what tests read of an answer.
type reply struct {
	ID, Object, Model string
	Fingerprint       string `json:"system_fingerprint"`
	Choices           []struct {
		Message struct{ Role, Content string }
		Delta   struct{ Role, Content string }
		Text    string
		Finish  string `json:"finish_reason"`
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
		Details    struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
}

// ask runs a request to its end.
func ask(t testing.TB, e consumers.Engine, r *consumers.Request) (*consumers.Done, reply, error) {
	t.Helper()
	s, err := e.Submit(t.Context(), r)
	if err != nil {
		return nil, reply{}, err
	}
	defer s.Close()
	for {
		ev, err := s.Next()
		if err != nil {
			return nil, reply{}, err
		}
		if ev.Done == nil {
			continue
		}
		var o reply
		if err := json.Unmarshal(ev.Done.Body, &o); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		return ev.Done, o, nil
	}
}

// heldout is one example that the model was not trained on.
type heldout struct {
	Task, Prompt, Answer string
	History              [][2]string
}

func examples(t testing.TB) (list []heldout) {
	t.Helper()
	f, err := os.Open("testdata/heldout.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var h heldout
		if err := json.Unmarshal(s.Bytes(), &h); err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
	return list
}

func (h *heldout) body() []byte {
	var m []turn
	for _, x := range h.History {
		m = append(m, turn{"role": "user", "content": x[0]}, turn{"role": "assistant", "content": x[1]})
	}
	return chatBody(120, append(m, turn{"role": "user", "content": h.Prompt})...)
}

// TestAnswers: the model answers questions it has never seen, and gives the same tokens whatever runs beside them.
func TestAnswers(t *testing.T) {
	t.Parallel()
	list := examples(t)
	answers := map[int][]string{}
	for _, slots := range []int{1, 4, 16} {
		e := openTiny(t, Options{Slots: slots, Queue: len(list)})
		got := make([]string, len(list))
		var wg sync.WaitGroup
		for i, h := range list {
			wg.Go(func() {
				_, o, err := ask(t, e, &consumers.Request{URL: consumers.PathChat, Body: h.body()})
				if err != nil {
					t.Error(err)
					return
				}
				got[i] = o.Choices[0].Message.Content
			})
		}
		wg.Wait()
		answers[slots] = got
		e.Close()
	}
	right := 0
	for i, h := range list {
		if answers[1][i] == h.Answer {
			right++
		}
	}
	if share := float64(right) / float64(len(list)); share < 0.92 {
		t.Errorf("%d of %d answers are right", right, len(list))
	}
	for _, slots := range []int{4, 16} {
		if !slices.Equal(answers[slots], answers[1]) {
			t.Errorf("%d slots answer otherwise than 1", slots)
		}
	}
	t.Logf("%d of %d right", right, len(list))
}

func TestRefusesBadFiles(t *testing.T) {
	t.Parallel()
	b := weights(t)
	for name, f := range map[string][]byte{
		"empty": {}, "text": []byte("hello"), "truncated": b[:len(b)/2], "header only": b[:2000],
		"no last byte": b[:len(b)-33],
	} {
		if _, err := OpenBytes(t.Context(), f, Options{}); schemas.KindOf(err) != schemas.KindCorrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(t.Context(), "no such file", Options{}); schemas.KindOf(err) != schemas.KindNotFound {
		t.Errorf("%v", err)
	}
}

func TestOpenFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := OpenFolder(t.Context(), dir, Options{}); schemas.KindOf(err) != schemas.KindNotFound {
		t.Errorf("empty folder: %v", err)
	}
	for _, name := range []string{"LICENSE", "a.gguf"} {
		if err := os.WriteFile(dir+"/"+name, weights(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, err := OpenFolder(t.Context(), dir, Options{Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, o, err := ask(t, e, &consumers.Request{URL: consumers.PathChat, Body: chatBody(20, turn{"role": "user", "content": "Translate to French: the red cat sleeps"})}); err != nil || o.Choices[0].Message.Content != "le chat rouge dort" {
		t.Errorf("%+v %v", o, err)
	}
	if err := os.WriteFile(dir+"/b.GGUF", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(t.Context(), dir, Options{}); schemas.KindOf(err) != schemas.KindUnsupported {
		t.Errorf("two files: %v", err)
	}
}
