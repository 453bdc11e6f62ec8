package consumers_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// shiftEnv makes TestWorkerProcess a worker: it holds a shift.
const shiftEnv = "COCOON_TEST_WORKER_SHIFT"

// shift says what a worker process does.
type shift struct {
	URL   string
	Slots int
	// Took is the time of one answer. Held makes the first one wait for a line on standard input instead.
	Took time.Duration
	Held bool
	// Stop is the point at which the Luck-th job that comes there stands still for ever, to be killed there.
	Stop consumers.Point
	Luck int64
}

// TestWorkerProcess is a worker when another test starts it as a process, and nothing otherwise. It tells on standard
// output which job is at which point, and ends with standard input, which ends with its parent.
func TestWorkerProcess(t *testing.T) {
	spec := os.Getenv(shiftEnv)
	if spec == "" {
		return
	}
	var s shift
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		t.Fatal(err)
	}
	lines := make(chan struct{})
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- struct{}{}
		}
		os.Exit(0)
	}()
	net := enclavetest.New(t) // every such world has the same roots and hardware
	bus, err := streams.Connect(t.Context(), streams.Config{URL: s.URL, ConnectTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	var runs, seen atomic.Int64
	c := workerConfig(t, net, stub.New(stub.Options{Slots: s.Slots, Took: s.Took, Chunks: 5, Script: func(*consumers.Request) stub.Act {
		if runs.Add(1) == 1 && s.Held {
			<-lines
		}
		return stub.Act{}
	}}))
	c.Bus = bus
	w, err := consumers.NewWorker(c)
	if err != nil {
		t.Fatal(err)
	}
	w.SetProbe(func(p consumers.Point, id schemas.JobID, _ int) {
		stop := p == s.Stop && seen.Add(1) == s.Luck
		fmt.Fprintf(os.Stdout, "%s %s %v\n", p, id, stop)
		if stop {
			select {}
		}
	})
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// workerProcess is a worker in a process of its own.
type workerProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	// said are the lines of standard output; closed when the process is gone.
	said chan string
}

// process starts a worker process; it is killed with the test at the latest.
func (b *bundle) process(s shift) *workerProcess {
	b.t.Helper()
	s.URL = b.url
	spec, err := json.Marshal(s)
	if err != nil {
		b.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	p := &workerProcess{t: b.t, said: make(chan string, 1<<16)}
	p.cmd = exec.Command(self, "-test.run=^TestWorkerProcess$")
	p.cmd.Env = append(os.Environ(), shiftEnv+"="+string(spec))
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		b.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer close(p.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.said <- lines.Text()
		}
	}()
	b.t.Cleanup(p.kill)
	return p
}

// reaches waits until a job is at a point.
func (p *workerProcess) reaches(point consumers.Point) {
	p.t.Helper()
	for end := time.After(patience); ; {
		select {
		case line, ok := <-p.said:
			if !ok {
				p.t.Fatalf("the process ended before %q", point)
			}
			if strings.HasPrefix(line, string(point)+" ") {
				return
			}
		case <-end:
			p.t.Fatalf("not within %v: %q", patience, point)
		}
	}
}

// signal sends a signal.
func (p *workerProcess) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// kill is kill -9. It returns when the process is gone.
func (p *workerProcess) kill() {
	_ = p.cmd.Process.Kill()
	for range p.said {
	}
	_ = p.cmd.Wait()
	_ = p.stdin.Close()
}

// TestProcessKilled: a worker process that is killed with SIGKILL at any point leaves a job that another worker ends, once. A
// job whose outcome was stored before is not run again.
func TestProcessKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		point consumers.Point
		again int // runs by the second worker
	}{
		{consumers.PointTaken, 1},
		{consumers.PointGranted, 1},
		{consumers.PointRunning, 1},
		{consumers.PointAnswered, 1},
		{consumers.PointPublished, 0},
	} {
		t.Run(string(c.point), func(t *testing.T) {
			t.Parallel()
			b := setupOn(t, streamstest.Options{TCP: true})
			p := b.process(shift{Slots: 1, Stop: c.point, Luck: 1})
			j := b.submit(1)
			p.reaches(c.point)
			p.kill()
			second := newStub(1, nil)
			b.worker(second)
			if r := b.answer(j[0]); r.Result.Err() != nil {
				t.Error(r.Result.Err())
			}
			b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
			b.oneOutcomeEach(j)
			if second.Runs() != c.again {
				t.Errorf("the second worker ran it %d times, want %d", second.Runs(), c.again)
			}
		})
	}
}

// TestProcessStopped: SIGSTOP past the lease, then SIGCONT while another worker holds the same job. The one that was stopped
// has its answer ready, finds its lease gone and lets go: it takes nothing from the other, and works on.
func TestProcessStopped(t *testing.T) {
	t.Parallel()
	b := setupOn(t, streamstest.Options{TCP: true})
	p := b.process(shift{Slots: 1, Held: true})
	j := b.submit(1)[0]
	p.reaches(consumers.PointGranted)
	p.signal(syscall.SIGSTOP)

	release := make(chan struct{})
	var count tally
	second := b.prepare(newStub(1, func(*consumers.Request) stub.Act { <-release; return stub.Act{} }))
	second.SetProbe(count.probe(nil))
	second.start()
	b.eventually("the second worker has the job too", func() bool { return count.at(consumers.PointGranted, j.Attributes.ID) == 1 })
	taken := count.at(consumers.PointTaken, j.Attributes.ID) // more than once when the brokers' lease outlives the queue's
	if _, err := io.WriteString(p.stdin, "\n"); err != nil { // the engine answers as soon as the process goes on
		t.Fatal(err)
	}
	p.signal(syscall.SIGCONT)
	other := b.submit(1)[0] // only the process has a slot for it
	if a := b.answer(other); a.Result.Err() != nil || a.Grant.Worker == second.ID() {
		t.Errorf("the process that was stopped: %v", a.Result.Err())
	}
	close(release)
	if a := b.answer(j); a.Result.Err() != nil || a.Grant.Worker != second.ID() || a.Grant.Attempt != 2 {
		t.Errorf("ended by worker %s at attempt %d: %v", a.Grant.Worker, a.Grant.Attempt, a.Result.Err())
	}
	b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
	if n := count.at(consumers.PointTaken, j.Attributes.ID); n != taken {
		t.Errorf("the second worker got the job %d times, %d of them before the first went on: its lease was taken from it", n, taken)
	}
	b.oneOutcomeEach([]enclave.SealedJob{j, other})
}

// TestServerKilled: the server process is killed with SIGKILL again and again while jobs come and worker processes work. What
// was accepted ends, once.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	b, node := setupProcess(t)
	for range 2 {
		b.process(shift{Slots: 4, Took: 50 * time.Millisecond})
	}
	var jobs []enclave.SealedJob
	for range 3 {
		jobs = append(jobs, b.submit(50)...)
		b.answer(jobs[len(jobs)-40]) // work is under way
		node.Kill()
		node.Start()
	}
	jobs = append(jobs, b.submit(10)...)
	for _, j := range jobs {
		if a := b.answer(j); a.Result.Err() != nil {
			t.Error(a.Result.Err())
		}
	}
	b.eventually("the queue is empty", func() bool { return b.queued() == 0 })
	b.oneOutcomeEach(jobs)
}
