//go:build !worker

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/stub"
	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// network is a whole network in this process that ends with the test.
func network(t *testing.T) *benchNet {
	t.Helper()
	n, err := newBenchNet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// workers starts workers that end with the test.
func workers(t *testing.T, n *benchNet, count int) {
	t.Helper()
	crew, err := n.crew(t.Context(), count, stub.Options{Slots: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := crew.end(); err != nil {
			t.Error(err)
		}
	})
}

// run executes `workers` with arguments and returns what it prints.
func run(t *testing.T, n *benchNet, args ...string) (string, error) {
	t.Helper()
	cmd := Workers(func(cmd *cobra.Command) (*streams.Bus, error) { return n.connect(cmd.Context()) })
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// list is `workers ls --json`, once there are as many as wanted and all of them serve.
func list(t *testing.T, n *benchNet, want int) (views []WorkerView) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		out, err := run(t, n, "ls", "--json", "--state", "serving")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out), &views); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if len(views) == want {
			return views
		}
	}
	t.Fatalf("%d workers serve, want %d", len(views), want)
	return nil
}

// TestWorkersVerbs: list, show and orders, as an operator uses them.
func TestWorkersVerbs(t *testing.T) {
	t.Parallel()
	n := network(t)
	workers(t, n, 2)
	views := list(t, n, 2)
	id := string(views[0].Worker)

	if out, err := run(t, n, "ls", "--model", "bench"); err != nil || !strings.Contains(out, id) || !strings.Contains(out, "simulated") {
		t.Errorf("ls: %v\n%s", err, out)
	}
	if out, err := run(t, n, "ls", "--model", "other"); err != nil || strings.Contains(out, id) {
		t.Errorf("ls of another model: %v\n%s", err, out)
	}
	if out, err := run(t, n, "show", id); err != nil || !strings.Contains(out, "0 of 4 slots") {
		t.Errorf("show: %v\n%s", err, out)
	}
	if _, err := run(t, n, "show", "waaaaaaaaaaaaaaaa"); cli.ExitCode(err) != cli.ExitNotFound {
		t.Errorf("show of nobody: %v", err)
	}
	if _, err := run(t, n, "drain"); cli.ExitCode(err) != cli.ExitUsage {
		t.Errorf("drain of nobody: %v", err)
	}
	if _, err := run(t, n, "set-ask", id, "cheap"); cli.ExitCode(err) != cli.ExitUsage {
		t.Errorf("set-ask without a number: %v", err)
	}
	if out, err := run(t, n, "set-ask", id, "1.5x"); err != nil || !strings.Contains(out, "ask 1.5x") {
		t.Errorf("set-ask: %v\n%s", err, out)
	}
	if out, err := run(t, n, "disable", id); err != nil || !strings.Contains(out, "disabled, ask 1.5x") {
		t.Errorf("disable: %v\n%s", err, out)
	}
	list(t, n, 1)
	if _, err := run(t, n, "enable", id); err != nil {
		t.Errorf("enable: %v", err)
	}
	list(t, n, 2)
	if _, err := run(t, n, "drain", "--all"); err != nil {
		t.Errorf("drain: %v", err)
	}
	list(t, n, 0)
}

// TestWorkersEarnings: receipts are summed up per worker and priced by the catalogue.
func TestWorkersEarnings(t *testing.T) {
	t.Parallel()
	n := network(t)
	workers(t, n, 1)
	b := &pipelineBench{net: n}
	const jobs = 5
	if _, err := b.pipeline(t.Context(), n.tenant, jobs, 0); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, n, "earnings", "--json")
	var all []Earning
	if err == nil {
		err = json.Unmarshal([]byte(out), &all)
	}
	if err != nil || len(all) != 1 {
		t.Fatalf("earnings: %v\n%s", err, out)
	}
	one, err := schemas.PriceOf(stub.DefaultUsage(), n.model.Price, schemas.One, 500)
	if err != nil {
		t.Fatal(err)
	}
	e := all[0]
	if e.Receipts != jobs || e.Charged != jobs*one.Total || e.Earned != jobs*one.Worker || e.Invalid+e.Unpriced != 0 || e.Owner != benchOwner {
		t.Errorf("earnings %+v, want %d receipts of %+v", e, jobs, one)
	}
	if out, err := run(t, n, "earnings", "--owner", "0:"+strings.Repeat("a", 64)); err != nil || strings.Contains(out, string(e.Worker)) {
		t.Errorf("earnings of another owner: %v\n%s", err, out)
	}
}

func TestParseMultiplier(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]schemas.BasisPoints{
		"0": 0, "15000": 15_000, "1x": 10_000, "1.5x": 15_000, "0.0001x": 1, "100x": 1_000_000,
	} {
		got, err := ParseMultiplier(s)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
		if back, err := ParseMultiplier(Multiplier(got)); err != nil || back != got {
			t.Errorf("%q: spelled %s, read back as %d, %v", s, Multiplier(got), back, err)
		}
	}
	for _, s := range []string{"", "x", "1.x", ".5x", "1.00001x", "-1x", "+1x", "101x", "1000001", "1,5x", "1e3"} {
		if got, err := ParseMultiplier(s); err == nil {
			t.Errorf("%q was read as %d", s, got)
		}
	}
}

// TestRunWorkerWithWeights: a worker gets weights that its owner brings, verifies them, opens its engine on them, serves, and
// leaves nothing behind.
func TestRunWorkerWithWeights(t *testing.T) {
	t.Parallel()
	n := network(t)
	machine, err := n.platform.Boot(t.Context(), sim.MachineSpec{Name: benchWorker, Image: benchWorker, GPUs: 1, PolicyRoot: n.trust.Roots.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	bus, err := n.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close(context.Background())
	private, plain := t.TempDir(), t.TempDir()
	o := WorkerOptions{
		Bus: bus, Trust: n.trust, Attester: machine, Collateral: n.platform.Collateral(), Owner: benchOwner, Models: []string{"bench"},
		WeightsDir: private, PlainDir: plain,
		OpenEngine: func(context.Context, string, schemas.Model) (consumers.Engine, error) {
			t.Error("an engine was opened on weights that are not the model's")
			return stub.New(stub.Options{}), nil
		},
	}
	if err := os.WriteFile(filepath.Join(plain, "weights.bin"), []byte("other weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RunWorker(t.Context(), o); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("weights that are not the model's: %v", err)
	}
	left, err := os.ReadDir(private)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	o.Models = []string{"nothing"}
	if err := RunWorker(t.Context(), o); !errors.Is(err, schemas.KindUnknownModel) {
		t.Errorf("a model that is not in the catalogue: %v", err)
	}
}

// TestRunHost: workers are started for what waits and stopped when the maximum says so.
func TestRunHost(t *testing.T) {
	t.Parallel()
	n := network(t)
	if err := n.control(t.Context()); err != nil {
		t.Fatal(err)
	}
	machine, err := n.platform.Boot(t.Context(), sim.MachineSpec{Name: benchWorker, Image: benchWorker, GPUs: 1, PolicyRoot: n.trust.Roots.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- RunHost(ctx, HostOptions{Worker: WorkerOptions{
			Bus: n.bus, Trust: n.trust, Attester: machine, Collateral: n.platform.Collateral(), Owner: benchOwner, Host: "host",
			Engines: map[schemas.ModelID]consumers.Engine{n.model.ID: stub.New(stub.Options{})},
		}})
	}()
	b := &pipelineBench{net: n}
	if _, err := b.pipeline(t.Context(), n.tenant, 3, 0); err != nil { // answered, so a worker was started
		t.Fatal(err)
	}
	list(t, n, 1)
	value, err := json.Marshal(streams.FleetModel{Min: 0, Max: 0})
	if err == nil {
		_, err = n.bus.Bucket(streams.BucketFleet).Put(t.Context(), streams.PrefixModel+n.model.Slug, value)
	}
	if err != nil {
		t.Fatal(err)
	}
	list(t, n, 0)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
