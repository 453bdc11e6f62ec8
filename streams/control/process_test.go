package control_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/control"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// controlEnv makes TestControlProcess a control service on the server that it names.
const controlEnv = "COCOON_TEST_CONTROL_URL"

// TestControlProcess is a control service when another test starts it as a process, and nothing otherwise.
func TestControlProcess(t *testing.T) {
	url := os.Getenv(controlEnv)
	if url == "" {
		return
	}
	bus, err := streams.Connect(t.Context(), streams.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := control.New(bus, control.Options{}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// process starts a control service in a process of its own; kill is kill -9.
func process(t *testing.T, url string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestControlProcess$")
	cmd.Env = append(os.Environ(), controlEnv+"="+url)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	return kill
}

// TestKilled: control services are killed with SIGKILL again and again, two of them running at most times. Every job whose
// deadline passes in the queue ends as expired, every cancelled one as cancelled, every one that was delivered too often as a
// dead letter, each once.
func TestKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	_, server := streamstest.NewWith(t, streamstest.Options{TCP: true, Topology: streams.Topology{Lease: streams.Duration(time.Second), Deliveries: deliveries}})
	bus, ctx := streamstest.Connect(t, server, streams.Config{}), streamstest.Context(t)
	tenant := schemas.NewTenantID()
	publish := func(life time.Duration, class schemas.Class) (streams.Job, streams.Ack) {
		t.Helper()
		j := streamstest.Job(tenant, []byte("sealed "+schemas.NewJobID()), func(a *schemas.Attributes) {
			a.Time = time.Now().UTC().Truncate(time.Second)
			a.Expiry, a.Class = a.Time.Add(life), class
		})
		ack, err := bus.PublishJob(ctx, j)
		if err != nil {
			t.Fatal(err)
		}
		return j, ack
	}
	want := map[schemas.JobID]schemas.Kind{}
	dying, _ := publish(time.Hour, schemas.Priority)
	want[dying.Attributes.ID] = schemas.KindPoison
	p, err := bus.NewPuller(ctx, streams.PullerOptions{Route: streamstest.Route, Classes: []schemas.Class{schemas.Priority}, Poll: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	kill := process(t, server.URL())
	const rounds = 4
	for range rounds {
		for range 5 {
			j, _ := publish(4*time.Second, schemas.Batch)
			want[j.Attributes.ID] = schemas.KindExpired
		}
		j, ack := publish(time.Hour, schemas.Standard)
		want[j.Attributes.ID] = schemas.KindCancelled
		for state := streams.CancelState(""); state != streams.CancelDone && state != streams.CancelTooLate; { // a killed service answers nobody
			if state, err = bus.Cancel(ctx, tenant, j.Attributes.ID, ack); err != nil && ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		for range deliveries / rounds {
			if ds, err := p.Next(ctx, 1); err != nil || ds[0].Attributes.ID != dying.Attributes.ID {
				t.Fatalf("a job that is given back: %v", err)
			} else if err := ds[0].Retry(ctx, 0); err != nil {
				t.Fatal(err)
			}
		}
		next := process(t, server.URL())
		kill()
		kill = next
	}
	for { // the server tells of the last delivery when somebody pulls again
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		ds, err := p.Next(short, 1)
		cancel()
		if len(ds) > 0 || ctx.Err() != nil {
			t.Fatalf("delivered %d times: %v", deliveries+1, err)
		}
		if _, err := bus.Outcome(ctx, tenant, dying.Attributes.ID); err == nil {
			break
		}
	}
	for id, kind := range want {
		o, err := bus.AwaitOutcome(ctx, tenant, id)
		if err != nil || o.Kind != kind {
			t.Errorf("job %s: ended as %v (%v), want %v", id, o.Kind, err, kind)
		}
	}
	stored := 0
	if err := bus.Stored(ctx, streams.StreamOutcomes, func(streams.StoredMessage) error { stored++; return nil }); err != nil || stored != len(want) {
		t.Errorf("%d outcomes of %d jobs (%v)", stored, len(want), err)
	}
	letters := ""
	for d, err := range bus.DeadLetters(ctx, streams.DeadSelector{}) {
		if err != nil {
			t.Fatal(err)
		}
		letters += string(d.Job)
	}
	if letters != string(dying.Attributes.ID) {
		t.Errorf("dead letters of %q, want one of %s", letters, dying.Attributes.ID)
	}
}
