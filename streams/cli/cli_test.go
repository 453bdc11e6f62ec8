package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	schemascli "github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/access"
	"github.com/cocoon-network/cocoon/streams/cli"
	"github.com/cocoon-network/cocoon/streams/embedded"
	"github.com/cocoon-network/cocoon/streams/streamstest"
)

// bundle is a network to run commands against.
type bundle struct {
	t      *testing.T
	ctx    context.Context
	server *embedded.Server
	bus    *streams.Bus
}

// setup starts a network; bare leaves the topology to the commands.
func setup(t *testing.T, bare bool) *bundle {
	t.Helper()
	b := &bundle{t: t, ctx: streamstest.Context(t)}
	b.server = streamstest.Server(t, embedded.Options{InProcessOnly: true})
	b.bus = streamstest.Connect(t, b.server, streams.Config{})
	if !bare {
		if _, err := b.bus.Apply(b.ctx, streams.Topology{}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// run runs a command as main does and returns what it printed.
func (b *bundle) run(noun func(cli.Connect) *cobra.Command, stdin string, args ...string) (stdout, stderr string, err error) {
	b.t.Helper()
	cmd := noun(func(*cobra.Command) (*streams.Bus, error) {
		return streams.Connect(b.ctx, streams.Config{InProcess: b.server.InProcess()})
	})
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err = cmd.ExecuteContext(b.ctx)
	return out.String(), errs.String(), err
}

// ok runs a command that must succeed.
func (b *bundle) ok(noun func(cli.Connect) *cobra.Command, args ...string) string {
	b.t.Helper()
	out, errs, err := b.run(noun, "", args...)
	if err != nil {
		b.t.Fatalf("%v: %v\n%s", args, err, errs)
	}
	return out
}

// fails runs a command that must end with an exit code.
func (b *bundle) fails(code int, noun func(cli.Connect) *cobra.Command, args ...string) {
	b.t.Helper()
	if _, _, err := b.run(noun, "", args...); err == nil || schemascli.ExitCode(err) != code {
		b.t.Errorf("%v: exit code %d (%v), want %d", args, schemascli.ExitCode(err), err, code)
	}
}

// decode reads JSON output.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

// TestTopology: diff, apply and diff again; a change is asked about, a dangerous one refused.
func TestTopology(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	if missing := decode[[]streams.Change](t, b.ok(cli.Topology, "diff", "--json")); len(missing) < 15 {
		t.Errorf("an empty server lacks %d streams", len(missing))
	}
	b.ok(cli.Topology, "apply")
	if left := decode[[]streams.Change](t, b.ok(cli.Topology, "diff", "--json")); len(left) != 0 {
		t.Errorf("after apply: %+v", left)
	}
	b.ok(cli.Topology, "apply", "--shards", "2")
	b.fails(2, cli.Topology, "apply", "--shards", "2", "--tenant-queue", "50")
	if _, errs, err := b.run(cli.Topology, "n\n", "apply", "--shards", "2", "--tenant-queue", "50"); !errors.Is(err, schemas.KindCancelled) || !strings.Contains(errs, "max_msgs_per_subject") {
		t.Errorf("no: %v %s", err, errs)
	}
	if _, _, err := b.run(cli.Topology, "y\n", "apply", "--shards", "2", "--tenant-queue", "50"); err != nil {
		t.Errorf("yes: %v", err)
	}
	b.fails(1, cli.Topology, "apply", "--yes") // one shard less
	b.fails(2, cli.Topology, "apply", "--replicas", "2")

	file := filepath.Join(t.TempDir(), "topology.json")
	if err := os.WriteFile(file, []byte(b.ok(cli.Topology, "export", "--shards", "2", "--tenant-queue", "50")), 0o600); err != nil {
		t.Fatal(err)
	}
	if left := decode[[]streams.Change](t, b.ok(cli.Topology, "diff", "--json", "-f", file)); len(left) != 0 {
		t.Errorf("the exported topology differs: %+v", left)
	}
	for name, text := range map[string]string{
		"an unknown field":  `{"shardz": 2}`,
		"a rollup":          `{"streams": {"JOBS_0": {"allow_rollup_hdrs": true}}}`,
		"async persistence": `{"streams": {"OUT": {"persist_mode": "async"}}}`,
		"memory":            `{"streams": {"OUT": {"storage": "memory"}}}`,
		"a short life":      `{"streams": {"OUT": {"max_age": 60000000000}}}`,
		"no stream of ours": `{"streams": {"OTHER": {}}}`,
	} {
		if _, _, err := b.run(cli.Topology, text, "diff", "-f", "-"); !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out := b.ok(cli.Topology, "export", "--format", "nack"); strings.Count(out, "kind: Stream\n") < 15 || !strings.Contains(out, "retention: workqueue") {
		t.Errorf("nack: %s", out)
	}
	if list := decode[[]map[string]any](t, b.ok(cli.Topology, "export", "--format", "streams")); len(list) < 15 {
		t.Errorf("%d streams exported", len(list))
	}
}

// publish stores jobs and returns the first.
func (b *bundle) publish(n int) streams.Job {
	b.t.Helper()
	var first streams.Job
	tenant := schemas.NewTenantID()
	for i := range n {
		j := streamstest.Job(tenant, []byte("sealed "+schemas.NewJobID()), nil)
		if i == 0 {
			first = j
		}
		if _, err := b.bus.PublishJob(b.ctx, j); err != nil {
			b.t.Fatal(err)
		}
	}
	return first
}

// TestConsumers: list, show, pause and resume, scale.
func TestConsumers(t *testing.T) {
	t.Parallel()
	b := setup(t, false)
	slug := streamstest.Route.Slug
	b.fails(4, cli.Consumers, "show", slug)
	if err := b.bus.CreateConsumer(b.ctx, streamstest.Route, schemas.Standard); err != nil {
		t.Fatal(err)
	}
	b.publish(3)
	for b.ctx.Err() == nil { // the server counts a job a moment after it has stored it
		list := decode[[]streams.Backlog](t, b.ok(cli.Consumers, "ls", "--json"))
		if len(list) != 1 || list[0].Pending > 3 || list[0].Route.Slug != slug {
			t.Fatalf("ls: %+v", list)
		}
		if list[0].Pending == 3 {
			break
		}
	}
	if table := b.ok(cli.Consumers, "ls"); !strings.Contains(table, "WAITING") || !strings.Contains(table, slug) {
		t.Errorf("table: %s", table)
	}
	paused := decode[[]streams.Backlog](t, b.ok(cli.Consumers, "pause", slug, "--for", "2h", "--json"))
	if left := time.Until(paused[0].Paused); left < 119*time.Minute || left > 2*time.Hour {
		t.Errorf("paused for %v", left)
	}
	p, err := b.bus.NewPuller(b.ctx, streams.PullerOptions{Route: streamstest.Route, Classes: []schemas.Class{schemas.Standard}, Poll: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	short, cancel := context.WithTimeout(b.ctx, 300*time.Millisecond)
	defer cancel()
	if ds, err := p.Next(short, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused queue: %d %v", len(ds), err)
	}
	b.ok(cli.Consumers, "resume", slug, "--class", "standard")
	if _, err := p.Next(b.ctx, 1); err != nil {
		t.Errorf("a resumed queue: %v", err)
	}
	b.fails(4, cli.Consumers, "resume", slug, "--class", "batch")
	b.fails(2, cli.Consumers, "resume", slug, "--class", "urgent")
	b.fails(2, cli.Consumers, "pause", slug, "--for", "-1h")

	if m := decode[streams.FleetModel](t, b.ok(cli.Consumers, "scale", slug, "--min", "1", "--max", "4", "--json")); m != (streams.FleetModel{Min: 1, Max: 4}) {
		t.Errorf("scale: %+v", m)
	}
	if m := decode[streams.FleetModel](t, b.ok(cli.Consumers, "scale", slug, "--max", "0", "--json")); m != (streams.FleetModel{}) {
		t.Errorf("scale to zero: %+v", m)
	}
	b.fails(2, cli.Consumers, "scale", slug)
	b.fails(2, cli.Consumers, "scale", slug, "--min", "5", "--max", "4")
	if out := b.ok(cli.Consumers, "show", slug); !strings.Contains(out, "0 to 0 workers") {
		t.Errorf("show: %s", out)
	}
	b.ok(cli.Consumers, "scale", slug, "--unset")
	if out := b.ok(cli.Consumers, "show", slug); !strings.Contains(out, "not set") {
		t.Errorf("show: %s", out)
	}
}

// TestDLQ: list, show, count, replay and purge by selectors; what fails is said for each.
func TestDLQ(t *testing.T) {
	t.Parallel()
	b := setup(t, false)
	p, err := b.bus.NewPuller(b.ctx, streams.PullerOptions{Route: streamstest.Route})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	kinds := []schemas.Kind{schemas.KindPoison, schemas.KindEngine, schemas.KindPoison}
	job := b.publish(len(kinds))
	for left := len(kinds); left > 0; {
		ds, err := p.Next(b.ctx, left)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			left--
			if err := d.DeadLetter(b.ctx, schemas.Errorf(kinds[left], "reason\x1b[31m")); err != nil {
				t.Fatal(err)
			}
		}
	}
	list := func(args ...string) []streams.DeadLetter {
		return decode[[]streams.DeadLetter](t, b.ok(cli.DLQ, append([]string{"ls", "--json"}, args...)...))
	}
	if n := len(list()); n != 3 {
		t.Fatalf("%d dead letters", n)
	}
	for want, args := range map[int][]string{
		2: {"--kind", "poison"}, 1: {"--job", string(job.Attributes.ID)}, 3: {"--model", streamstest.Route.Slug, "--newer", "1h"}, 0: {"--older", "1h"},
	} {
		if n := len(list(args...)); n != want {
			t.Errorf("%v: %d, want %d", args, n, want)
		}
	}
	if lines := strings.Count(b.ok(cli.DLQ, "ls", "-o", "jsonl", "--limit", "2"), "\n"); lines != 2 {
		t.Errorf("%d lines", lines)
	}
	if table := b.ok(cli.DLQ, "ls"); strings.Contains(table, "\x1b") {
		t.Error("a reason steers the terminal")
	}
	seq := fmt.Sprint(list("--job", string(job.Attributes.ID))[0].Seq)
	if shown := b.ok(cli.DLQ, "show", seq); !strings.Contains(shown, "ce-subject") || strings.Contains(shown, "sealed ") {
		t.Errorf("show: %s", shown)
	}
	b.fails(4, cli.DLQ, "show", "99")
	b.fails(2, cli.DLQ, "show", "x")
	b.fails(2, cli.DLQ, "purge")
	b.fails(2, cli.DLQ, "purge", "1", "--all")
	b.fails(2, cli.DLQ, "purge", "--all") // nobody to ask
	b.fails(2, cli.DLQ, "ls", "--kind", "bad")
	if out, errs, err := b.run(cli.DLQ, "", "purge", "--all", "--dry-run"); err != nil || !strings.Contains(errs, "3 dead letter(s)") || !strings.Contains(out, "SEQ") || len(list()) != 3 {
		t.Errorf("dry run: %v %s", err, errs)
	}
	if out := b.ok(cli.DLQ, "replay", seq, "--yes"); !strings.Contains(out, "done") || len(list()) != 2 {
		t.Errorf("replay: %s", out)
	}
	ds, err := p.Next(b.ctx, 1)
	if err != nil || ds[0].Attributes.ID != job.Attributes.ID {
		t.Fatalf("the replayed job does not come: %v", err)
	}
	// One of the others has ended well meanwhile, by whatever way: it may not run again.
	other := list()[0]
	if _, err := b.bus.Replay(b.ctx, other.Seq); err != nil {
		t.Fatal(err)
	}
	ds, err = p.Next(b.ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := ds[0].DeadLetter(b.ctx, schemas.Errorf(schemas.KindEngine, "again")); err != nil {
		t.Fatal(err)
	}
	out, _, err := b.run(cli.DLQ, "y\n", "replay", "--all")
	if err != nil || strings.Count(out, "done") != 2 {
		t.Errorf("replay all: %v %s", err, out)
	}
	if out := b.ok(cli.DLQ, "purge", "--all", "-y"); strings.Contains(out, "done") {
		t.Errorf("purge of nothing: %s", out)
	}
}

// TestConf prints configurations that the server reads.
func TestConf(t *testing.T) {
	t.Parallel()
	b := &bundle{t: t, ctx: t.Context()}
	tenant := string(schemas.NewTenantID())
	worker := string(schemas.WorkerIDOf(nil)) + "=0." + streamstest.Route.Slug
	if out := b.ok(cli.Topology, "conf", "--tenant", tenant, "--worker", worker); !strings.Contains(out, tenant) || !strings.Contains(out, "max_control_line") {
		t.Errorf("development: %s", out)
	}
	b.fails(2, cli.Topology, "conf", "--tenant", "nobody")
	b.fails(2, cli.Topology, "conf", "--worker", "x")
	b.fails(2, cli.Topology, "conf", "--layout", "production")
	b.fails(2, cli.Topology, "conf", "--layout", "other")
}

// TestShippedConfigurations holds the files in deploy/nats to what the program makes: change the tables, then write them
// again with COCOON_UPDATE=1.
func TestShippedConfigurations(t *testing.T) {
	t.Parallel()
	example := schemas.TenantID("taaaaaaaaaaaaaaaa")
	worker := access.WorkerUser{Worker: "waaaaaaaaaaaaaaaa", Models: []streams.Route{streamstest.Route}, Lanes: streams.Topology{}.WithDefaults().Lanes}
	// The secret halves of these keys were thrown away: nobody can log in with them.
	const user = "UBT7TY7DXPM7DZRV2PHDP77TWOLEAANQVQA3DZJL5YLC6YBNFR3ILMUZ"
	services := map[access.Role]string{}
	for _, role := range append(access.Services(), access.RoleHost) {
		services[role] = user
	}
	production, err := access.Production(access.Network{
		Server: access.Server{
			Name: "nats-1", Store: "/var/lib/nats", CertFile: "/etc/nats/tls/tls.crt", KeyFile: "/etc/nats/tls/tls.key", CAFile: "/etc/nats/tls/ca.crt",
			Cluster: "0.0.0.0:6222", Routes: []string{"nats://nats-1:6222", "nats://nats-2:6222", "nats://nats-3:6222"}, Sync: true,
		},
		Services: services, Tenants: []schemas.TenantID{example}, System: user, Callout: user,
		Issuer: "ADRAKJG6RS7PVYIAR6J3TVBJSQNUDVABYRXLEM4T574XSTI3ITBPQ4UI", XKey: "XBV63DZ46PPNELBDJVPYQJ2Z5PW75VY66ADWXTMHFG7TQM6DMX2RC4XD",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"development.conf":        access.Development(access.Server{}, []schemas.TenantID{example}, []access.WorkerUser{worker}),
		"production.example.conf": production,
	} {
		path := filepath.Join("..", "..", "deploy", "nats", name)
		if os.Getenv("COCOON_UPDATE") != "" {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil || string(have) != want {
			t.Errorf("%s is not what the program makes (%v): run this test with COCOON_UPDATE=1", path, err)
		}
	}
}
