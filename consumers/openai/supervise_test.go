package openai

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/enginetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// playServer is the variable that makes the test binary a model server; its value is how it behaves.
const playServer = "COCOON_TEST_PLAY_SERVER"

// serveChild is a model server on a socket.
func serveChild(how, socket string) {
	if how == "dies" {
		os.Exit(3)
	}
	os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		os.Exit(4)
	}
	hung := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {
		select {
		case <-hung:
			select {} // as an engine does whose lock is never given back
		default:
		}
	})
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"id":"m","owned_by":"cocoon","slots":4,"max_model_len":64,"endpoints":["/v1/chat/completions"]}]}`)
	})
	mux.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { close(hung) })
	mux.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		event(w, `{"choices":[{"index":0,"delta":{"content":"%s"}}]}`, os.Getenv("SECRET"))
		<-r.Context().Done()
	})
	http.Serve(l, mux)
}

// supervise starts the test binary as a server.
func supervise(t *testing.T, how string, c Child) *Supervised {
	t.Helper()
	dir, err := os.MkdirTemp("", "sv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	c.URL, c.Poll, c.PollTimeout = "unix:"+socket, 10*time.Millisecond, 100*time.Millisecond
	c.Path, c.Args, c.Env = os.Args[0], []string{socket}, append(plainEnv(), playServer+"="+how)
	c.Backoff, c.Grace = 10*time.Millisecond, time.Second
	s, err := Supervise(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ready(t *testing.T, s *Supervised) (pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	pid, _ = s.Process()
	return pid
}

// TestKilled: a child that is killed in the middle of requests is started again; its requests may run again.
func TestKilled(t *testing.T) {
	t.Setenv("SECRET", "of the worker")
	s := supervise(t, "serves", Child{})
	pid := ready(t, s)
	var streams []consumers.Stream
	for range 4 {
		stream, err := s.Submit(t.Context(), &consumers.Request{URL: consumers.PathChat, Body: enginetest.Chat("m", question).With("stream", true).JSON(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		ev, err := stream.Next()
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"choices":[{"index":0,"delta":{"content":""}}],"model":"m"}`; string(ev.Delta) != want {
			t.Errorf("the child knows the environment: %s", ev.Delta)
		}
		streams = append(streams, stream)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, stream := range streams {
		if _, err := stream.Next(); schemas.KindOf(err) != schemas.KindEngine || !schemas.Retriable(err) {
			t.Errorf("%v", err)
		}
	}
	for {
		if again, restarts := s.Process(); restarts == 1 && again != 0 && again != pid && s.Capacity().Healthy {
			break
		}
		time.Sleep(time.Millisecond) // until it is back
	}
	if c := s.Capacity(); c.Running != 0 || c.Free != 5 {
		t.Errorf("%+v", c)
	}
	pid, _ = s.Process()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child outlives Close: %v", err)
	}
}

// TestHangs: a child that does not answer any more is killed and started again.
func TestHangs(t *testing.T) {
	t.Parallel()
	s := supervise(t, "serves", Child{HangTimeout: 300 * time.Millisecond})
	pid := ready(t, s)
	resp, err := s.client.do(t.Context(), http.MethodGet, "/hang", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for {
		if again, _ := s.Process(); again != 0 && again != pid && s.Capacity().Healthy {
			return
		}
		time.Sleep(time.Millisecond) // until it is back
	}
}

// TestNeverUp: a child that ends at once is reported, and tried again.
func TestNeverUp(t *testing.T) {
	t.Parallel()
	s := supervise(t, "dies", Child{})
	if err := s.Ready(t.Context()); schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("%v", err)
	}
	if _, err := Supervise(Child{}); schemas.KindOf(err) != schemas.KindInvalid {
		t.Errorf("%v", err)
	}
}
