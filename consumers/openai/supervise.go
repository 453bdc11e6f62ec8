package openai

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Child says how to run a server as a child process.
type Child struct {
	// Options of the engine; URL is where the child listens.
	Options
	// Path and Args are the program and its arguments.
	Path string
	Args []string
	// Env is the child's environment; nil gives it PATH, HOME, TMPDIR and what names libraries and GPUs, and nothing else:
	// what this process was told in its environment is not the child's business.
	Env []string
	// Output gets what the child prints; nil discards it. Servers that are not ours may print prompts.
	Output io.Writer
	// StartTimeout is how long it may take until the child is healthy; 0 means 10 minutes (large weights).
	StartTimeout time.Duration
	// HangTimeout is how long a child that was healthy may be unhealthy before it is killed; 0 means 20 seconds.
	HangTimeout time.Duration
	// Backoff is the pause before the first restart; each further one doubles it, up to 30 seconds, until the child has
	// lived for a minute. 0 means half a second.
	Backoff time.Duration
	// Grace is how long the child has to end when it is asked to; 0 means 10 seconds.
	Grace time.Duration
}

// Limits of restarts.
const (
	maxBackoff = 30 * time.Second
	longLife   = time.Minute
	checkChild = 250 * time.Millisecond
)

// Supervised is an engine in a child process that is started again when it crashes or hangs. Requests that were in it
// then fail with KindEngine; until it is back, Submit fails with KindUnavailable and Capacity is not healthy.
type Supervised struct {
	*Engine
	c    Child
	stop context.CancelFunc
	done chan struct{}
	once sync.Once

	mu       sync.Mutex // guards what people ask for
	pid      int
	restarts int
	lastExit error
}

// Supervise starts a server and keeps it running until Close. It returns at once; Ready waits for the server.
func Supervise(c Child) (*Supervised, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.StartTimeout, 10*time.Minute)
	set(&c.HangTimeout, 20*time.Second)
	set(&c.Backoff, 500*time.Millisecond)
	set(&c.Grace, 10*time.Second)
	if c.Path == "" {
		return nil, schemas.FieldError("path", "says which program to run")
	}
	if c.Env == nil {
		c.Env = plainEnv()
	}
	e, err := New(c.Options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Supervised{Engine: e, c: c, stop: cancel, done: make(chan struct{})}
	go s.run(ctx)
	return s, nil
}

// plainEnv is the environment that a model server may need.
func plainEnv() (env []string) {
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "OLLAMA_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// Ready waits until the server is healthy. When the child cannot even be started, or ends again and again, it says why.
func (s *Supervised) Ready(ctx context.Context) error {
	const patience = 3 // starts
	t := time.NewTicker(checkChild / 5)
	defer t.Stop()
	for {
		s.mu.Lock()
		restarts, last := s.restarts, s.lastExit
		s.mu.Unlock()
		switch {
		case s.up():
			return nil
		case restarts >= patience:
			return &schemas.Error{Kind: schemas.KindUnavailable, Message: "the model server does not come up", Err: last}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return &schemas.Error{Kind: schemas.KindUnavailable, Message: "the engine was closed"}
		}
	}
}

// Process tells the child's process id, 0 while there is none, and how often it was started again.
func (s *Supervised) Process() (pid, restarts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid, s.restarts
}

// Restart kills the child; it is started again. It is for a caller who knows that the engine hangs.
func (s *Supervised) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 {
		if p, err := os.FindProcess(s.pid); err == nil {
			_ = p.Kill() // it may have ended by itself
		}
	}
}

// Close ends the child and the engine.
func (s *Supervised) Close() error {
	s.once.Do(func() {
		s.stop()
		<-s.done
	})
	return s.Engine.Close()
}

// run keeps a child running. The goroutine stays on one thread: the system ties the child's life to it.
func (s *Supervised) run(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	pause := s.c.Backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := s.live(ctx)
		s.down()
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longLife {
			pause = s.c.Backoff
		}
		s.mu.Lock()
		s.restarts++
		s.lastExit = err
		s.mu.Unlock()
		s.o.Log.Error("the model server ended and is started again", "after", pause, "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxBackoff)
	}
}

// Why a child was ended.
var (
	errNotUp = errors.New("it did not come up in time")
	errHangs = errors.New("it was healthy and is no more")
)

// live runs one child to its end.
func (s *Supervised) live(ctx context.Context) error {
	cmd := exec.Command(s.c.Path, s.c.Args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.c.Env, s.c.Output, s.c.Output
	cmd.WaitDelay = s.c.Grace
	bindLife(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	s.setPID(cmd.Process.Pid)
	defer s.setPID(0)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	began := time.Now()
	t := time.NewTicker(checkChild)
	defer t.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("it ended by itself")
			}
			return err
		case <-ctx.Done():
			return s.end(cmd, ended)
		case <-t.C:
		}
		seen := s.seen()
		switch now := time.Now(); {
		case s.up():
		case seen.After(began) && now.Sub(seen) > s.c.HangTimeout:
			_ = cmd.Process.Kill() // it may have ended by itself
			<-ended
			return errHangs
		case !seen.After(began) && now.Sub(began) > s.c.StartTimeout:
			_ = cmd.Process.Kill()
			<-ended
			return errNotUp
		}
	}
}

func (s *Supervised) setPID(pid int) {
	s.mu.Lock()
	s.pid = pid
	s.mu.Unlock()
}

// end asks the child to stop, and kills it when it does not.
func (s *Supervised) end(cmd *exec.Cmd, ended <-chan error) error {
	_ = cmd.Process.Signal(os.Interrupt) // it may have ended by itself
	select {
	case err := <-ended:
		return err
	case <-time.After(s.c.Grace):
		_ = cmd.Process.Kill()
		return <-ended
	}
}
