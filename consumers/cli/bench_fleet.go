//go:build !worker

package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/embedded"
)

// The network that the dashboard is measured on.
const (
	fleetWorkers  = 1000
	fleetModels   = 200
	fleetRefusals = 40
	// fleetOutcomes are the jobs that end in a second.
	fleetOutcomes = 50
)

// benchFleet is a network as a dashboard sees it: a real server, and everything that workers, control and brokers would put
// there, as often as they would. Nothing runs behind it.
type benchFleet struct {
	server  *embedded.Server
	bus     *streams.Bus
	trust   schemas.Trust
	models  []schemas.Model
	workers []schemas.WorkerID
	tenants []schemas.TenantID
	started time.Time
}

// newBenchFleet starts the server in a folder and publishes what stands still. Close it.
func newBenchFleet(ctx context.Context, dir string) (f *benchFleet, err error) {
	f = &benchFleet{started: time.Now().UTC().Truncate(time.Second)}
	if f.server, err = embedded.Start(embedded.Options{Dir: dir, Port: -1}); err != nil {
		return nil, err
	}
	if f.bus, err = streams.Connect(ctx, streams.Config{InProcess: f.server.InProcess(), Name: "bench"}); err != nil {
		f.server.Close()
		return nil, err
	}
	if _, err = f.bus.Apply(ctx, streams.Topology{}); err == nil {
		err = f.publish(ctx)
	}
	if err != nil {
		f.close(ctx)
	}
	return f, err
}

// close ends connection and server.
func (f *benchFleet) close(ctx context.Context) {
	_ = f.bus.Close(context.WithoutCancel(ctx))
	f.server.Close()
}

// publish makes the models, the workers, and what brokers found in their evidence.
func (f *benchFleet) publish(ctx context.Context) error {
	public, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	f.trust.Environment = schemas.Simulated
	if f.trust.Roots, err = schemas.NewRootKeys(1, public); err != nil {
		return err
	}
	for i := range fleetModels {
		ref := schemas.ModelRef{Name: fmt.Sprintf("maker/model-%03d", i), Revision: "1", Root: schemas.HashOf(strconv.AppendInt(nil, int64(i), 10))}
		f.models = append(f.models, schemas.Model{
			ID: ref.ID(), Slug: ref.Slug(), Format: "gguf", Context: 1 << 17, Endpoints: []string{consumers.PathChat},
			Price: schemas.Price{Prompt: 1_000_000 + schemas.NanoTON(i)*1000, Cached: 100_000, Completion: 4_000_000, Reasoning: 4_000_000},
		})
	}
	signed, err := schemas.SignDocument(&schemas.Catalogue{
		V: 1, Version: 1, Issued: f.started, Expires: f.started.Add(24 * time.Hour), Environment: schemas.Simulated, FeeBP: 500,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000},
		Models:  f.models,
	}, root)
	if err != nil {
		return err
	}
	text, err := signed.Encode()
	if err != nil {
		return err
	}
	if _, err := f.bus.Bucket(streams.BucketCatalogue).Put(ctx, "current", text); err != nil {
		return err
	}
	for range 20 {
		f.tenants = append(f.tenants, schemas.NewTenantID())
	}
	for i := range fleetWorkers + fleetRefusals {
		id := schemas.WorkerIDOf(fmt.Appendf(nil, "worker %d", i))
		if i < fleetWorkers {
			f.workers = append(f.workers, id)
		}
		if err := f.find(ctx, id, i >= fleetWorkers); err != nil {
			return err
		}
	}
	return nil
}

// find puts what a broker found in a worker's evidence.
func (f *benchFleet) find(ctx context.Context, id schemas.WorkerID, refused bool) error {
	found := schemas.Finding{
		Time: time.Now().UTC(), Policy: 1, Worker: id, Evidence: schemas.HashOf([]byte(id)), Image: "cocoon-worker", Environment: schemas.Simulated,
		NotAfter: time.Now().UTC().Add(time.Hour).Truncate(time.Second),
		TDX:      &schemas.TDXFinding{Platform: string(schemas.UpToDate), TDXModule: string(schemas.UpToDate), QE: string(schemas.UpToDate), TCBDate: f.started},
		GPUs:     []schemas.GPUFinding{{ID: schemas.HashOf([]byte(id)), Architecture: "GH100", Driver: "570.124.06", VBIOS: "96.00.5E.00.01", Measurements: 64, Matched: 64, RevocationChecked: true}},
	}
	if refused {
		found.Kind, found.Step, found.Field, found.Image = schemas.KindPolicy, "tcb", "tcb.platform", ""
		found.TDX.Platform = "OutOfDate since 2025-03-13"
		found.Message, found.Advice = "TCB OutOfDate since 2025-03-13; the policy accepts UpToDate", "install the newest BIOS"
	}
	return f.put(ctx, streams.BucketEvidence, streams.KeyFinding(&found), found)
}

// put stores a value as JSON.
func (f *benchFleet) put(ctx context.Context, bucket streams.BucketName, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = f.bus.Bucket(bucket).Put(ctx, key, b)
	return err
}

// run does what a living network does until ctx ends: every worker's entry and reputation each beat, outcomes, and control's
// answers about what waits, all of them changing.
func (f *benchFleet) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.bus.ServeBacklogs(ctx, f.backlogs) })
	group.Go(func() error {
		return every(ctx, streams.WorkerBeat/fleetWorkers, func(i int) error { return f.beat(ctx, i%fleetWorkers, i) })
	})
	group.Go(func() error { return every(ctx, time.Second/fleetOutcomes, func(int) error { return f.finish(ctx) }) })
	return group.Wait()
}

// every calls do in a rhythm until ctx ends; calls that are late are made up for.
func every(ctx context.Context, step time.Duration, do func(i int) error) error {
	start, tick := time.Now(), time.NewTicker(max(step, 10*time.Millisecond))
	defer tick.Stop()
	for i := 0; ; {
		for ; i < int(time.Since(start)/step); i++ {
			if err := do(i); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// some is a random number below n.
func some(n int64) int64 {
	v, err := rand.Int(rand.Reader, big.NewInt(n))
	if err != nil {
		return 0
	}
	return v.Int64()
}

// beat puts a worker's entry and reputation. Half of the workers have changed since their last one.
func (f *benchFleet) beat(ctx context.Context, i, n int) error {
	id, m := f.workers[i], &f.models[i%fleetModels]
	busy, load := i%16, int64(i%100)
	if some(2) == 0 {
		busy, load = int(some(17)), some(101)
	}
	e := streams.WorkerEntry{
		Worker: id, Owner: benchOwner, Host: fmt.Sprintf("host-%04d", i), Version: "1.0.0", Environment: schemas.Simulated, State: streams.WorkerServing,
		Ask: schemas.One, Models: []streams.WorkerModel{{Model: m.ID, Route: streams.RouteOf(m), Slots: 16, Busy: busy, TokensPerSecond: float64(busy * 40)}},
		GPUs:    []streams.WorkerGPU{{Name: "NVIDIA H100 80GB HBM3", CC: "on", Utilisation: int(load), MemoryUsed: 60 << 30, MemoryTotal: 80 << 30}},
		Started: f.started, Evidence: schemas.HashOf([]byte(id)), AttestedUntil: f.started.Add(time.Hour), Done: uint64(n / fleetWorkers * 3),
	}
	if i%97 == 0 {
		e.State, e.Reason = streams.WorkerPaused, "memory is above 92 %"
	}
	if err := f.put(ctx, streams.BucketWorkers, streams.PrefixWorker+string(id), e); err != nil {
		return err
	}
	r := streams.Reputation{Worker: id, Owner: benchOwner, Standing: streams.StandingGood, Updated: time.Now().UTC(), Windows: []streams.ReputationWindow{
		{Span: 15 * time.Minute, Succeeded: uint64(200 + n/fleetWorkers), Failed: 1, Lost: uint64(i % 3), Median: time.Duration(1+i%9) * time.Second},
	}}
	return f.put(ctx, streams.BucketWorkers, streams.PrefixReputation+string(id), r)
}

// backlogs is what control would say: three queues a model, a third of them moving.
func (f *benchFleet) backlogs() []streams.Backlog {
	now := time.Now()
	all := make([]streams.Backlog, 0, 3*len(f.models))
	for i := range f.models {
		for c, class := range []schemas.Class{schemas.Priority, schemas.Standard, schemas.Batch} {
			b := streams.Backlog{Route: streams.RouteOf(&f.models[i]), Class: class, Pending: uint64(i * (c + 1)), InFlight: uint64(i % 7), Lanes: 1}
			if i%3 == 0 {
				b.Pending += uint64(now.Unix() % 60)
			}
			if b.Pending > 0 {
				b.Oldest = now.Sub(f.started) + time.Duration(i)*time.Second
			}
			all = append(all, b)
		}
	}
	return all
}

// finish stores an outcome. The dashboard shows statements without judging them: the signatures are only letters.
func (f *benchFleet) finish(ctx context.Context) error {
	m, job := &f.models[some(fleetModels)], schemas.NewJobID()
	now := time.Now().UTC().Truncate(time.Second)
	tenant, class := f.tenants[some(int64(len(f.tenants)))], schemas.Classes()[some(3)]
	o := schemas.Outcome{
		Job: job, Tenant: tenant, Model: m.ID, Status: schemas.Succeeded, Body: []byte("sealed"),
		Grant: letters(schemas.Grant{
			V: 1, Job: job, Tenant: tenant, Model: m.ID, Class: class, Worker: f.workers[some(fleetWorkers)], Attempt: 1, Multiplier: schemas.One,
			Ceiling: schemas.TON, Issued: now.Add(-3 * time.Second),
		}),
		Receipt: letters(schemas.Receipt{V: 1, Job: job, Model: m.ID, Usage: schemas.Usage{Prompt: 300, Completion: 200}, Started: now.Add(-2 * time.Second), Finished: now}),
	}
	_, err := f.bus.PublishOutcome(ctx, o)
	return err
}

// letters is the form of a signed statement without a signature that holds.
func letters(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(b) + ".c2ln"
}
