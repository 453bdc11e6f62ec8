//go:build !worker

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// workerStart bounds the time a worker process takes to attest, load the model and pull.
const workerStart = 60 * time.Second

// workerProcess is a worker that runs as a process of its own, as it would on a machine of its own.
type workerProcess struct {
	name  string
	owner schemas.Owner
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process is gone

	mu     sync.Mutex // guards what follows
	last   string     // the last line of its standard error
	killed bool
}

// startWorkers starts the worker processes and waits until all of them serve.
func (d *demoRun) startWorkers(ctx context.Context) error {
	for i, owner := range d.owners {
		w, err := d.startWorker(fmt.Sprintf("worker-%d", i+1), owner)
		if err != nil {
			return err
		}
		d.workers = append(d.workers, w)
	}
	return eventually(ctx, workerStart, "the workers to attest and load the model", func(ctx context.Context) (bool, error) {
		for _, w := range d.workers {
			if err := w.gone(); err != nil {
				return false, err
			}
		}
		entries, err := d.net.bus.Bucket(streams.BucketWorkers).List(ctx, streams.PrefixWorker+"*")
		if err != nil {
			return false, err
		}
		serving := 0
		for _, e := range entries {
			if strings.Contains(string(e.Value), `"state":"`+string(streams.WorkerServing)+`"`) {
				serving++
			}
		}
		return serving >= len(d.workers), nil
	})
}

// startWorker runs this program again as a worker.
func (d *demoRun) startWorker(name string, owner schemas.Owner) (*workerProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	trust, err := d.net.trustFile()
	if err != nil {
		return nil, err
	}
	private := filepath.Join(d.dir, "weights-"+name) // a killed worker cannot remove what it opened; the demo removes all
	if err := os.MkdirAll(private, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "worker", "--weights-dir", private, "--simulated", d.net.data.sub("sim"), "--trust", trust, "--nats", d.net.natsURL(),
		"--owner", string(owner), "--host", name, "--image", imageWorker, "--engine", "embedded", "--slots", fmt.Sprint(defaultSlots))
	// The kernel ends the child when this process is gone, however it went, so that nothing is left behind.
	cmd.SysProcAttr = childAttributes()
	cmd.Env = append(os.Environ(), "NATS_URL=", "NATS_CREDS=", "NATS_CONTEXT=")
	w := &workerProcess{name: name, owner: owner, cmd: cmd, done: make(chan struct{})}
	lines, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		// The death signal is sent when the thread that started the child ends, so the thread must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		for s := bufio.NewScanner(lines); s.Scan(); {
			w.mu.Lock()
			w.last = s.Text()
			w.mu.Unlock()
			if d.options.logLevel == "debug" {
				fmt.Fprintf(d.story.errs, "%s: %s\n", name, s.Text())
			}
		}
		cmd.Wait() // how it ended is read from ProcessState
		close(w.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return w, nil
}

// gone says why a worker process has ended by itself, nil while it runs or after it was killed.
func (w *workerProcess) gone() error {
	select {
	case <-w.done:
	default:
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.killed {
		return nil
	}
	return schemas.Errorf(schemas.KindInternal, "%s ended: %s: %s", w.name, w.cmd.ProcessState, w.last)
}

// kill ends the process as a power cut does: it gets no chance to finish anything.
func (w *workerProcess) kill() error {
	w.mu.Lock()
	w.killed = true
	w.mu.Unlock()
	if err := w.cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-w.done
	return nil
}

// killWorker kills the first worker in the middle of the work.
func (d *demoRun) killWorker(bar *progressBar) {
	if err := d.workers[0].kill(); err != nil {
		bar.note(fmt.Sprintf("could not kill %s: %v", d.workers[0].name, err))
		return
	}
	bar.note(fmt.Sprintf("kill -9 %s (pid %d): its jobs go back to the queue when their leases lapse", d.workers[0].name, d.workers[0].cmd.Process.Pid))
}

// killAll ends every worker that still runs.
func (d *demoRun) killAll() {
	for _, w := range d.workers {
		w.kill()
	}
}
