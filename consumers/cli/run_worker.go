package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/attest"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/tracing"
	"github.com/cocoon-network/cocoon/streams"
)

// OpenEngine opens the engine of a model whose verified weights lie in dir.
type OpenEngine func(ctx context.Context, dir string, m schemas.Model) (consumers.Engine, error)

// WorkerOptions say what RunWorker runs. Bus, Trust, Attester, Collateral and Owner are required, and either OpenEngine or
// Engines.
type WorkerOptions struct {
	// Bus is the connection to the network; it stays the caller's.
	Bus *streams.Bus
	// Login makes the connection of the worker itself where workers log in with their evidence; Bus then is only what policy
	// and catalogue are read with, before there is evidence. nil: Bus is both.
	Login func(context.Context, *enclave.Session) (*streams.Bus, error)
	// Trust says whose policies and catalogues count.
	Trust schemas.Trust
	// Attester quotes for this process.
	Attester attest.Attester
	// Collateral gives Intel's documents for judging brokers.
	Collateral *tdx.Collateral
	// Owner is the TON address that earns.
	Owner schemas.Owner
	// Models are the full ids, or unambiguous names, of what to serve; empty means every model of the catalogue that the
	// policy admits.
	Models []string
	// OpenEngine opens an engine per model on its weights. It is not called for models in Engines.
	OpenEngine OpenEngine
	// Engines are engines that run already, by full model id. They stay the caller's, but a worker that ends has drained
	// them: each serves one worker's life.
	Engines map[schemas.ModelID]consumers.Engine
	// WeightsDir is a folder in memory that the host cannot read; opened weights are put below it and removed at the end.
	// Default: the system's temporary folder.
	WeightsDir string
	// PlainDir has a folder per model slug with weights that are not sealed, for models without locations.
	PlainDir string
	// Ask is the lowest price multiplier served, 0 for any.
	Ask schemas.BasisPoints
	// Host and Version are shown to operators.
	Host, Version string
	// DrainTimeout, JobTimeout, StallTimeout, Restart, Guard and Metrics are as in consumers.Config.
	DrainTimeout, JobTimeout, StallTimeout time.Duration
	Restart                                func(ctx context.Context, model schemas.ModelID) error
	Guard                                  consumers.GuardConfig
	Metrics                                *consumers.Metrics
	// Ready is called once, when the worker is about to take jobs; nil: nobody is told.
	Ready func(*consumers.Worker)
	// Tracer opens the network's spans of jobs; nil opens none.
	Tracer *tracing.Tracer
	// Log may be nil.
	Log *slog.Logger
}

// Waits of RunWorker.
const (
	// retryFollow is the wait before something that was lost is followed again.
	retryFollow = time.Second
	// minWeights and maxWeights bound the waits between two tries to get weights or their key.
	minWeights = 500 * time.Millisecond
	maxWeights = 15 * time.Second
)

// RunWorker runs one worker until ctx ends: it follows policy and catalogue, opens the engines of its models on weights
// that it gets and verifies itself, attests and serves. It returns nil when ctx ended or an operator drained the worker,
// KindPolicy or KindAttestation when the worker is not admitted, and the reason when a model cannot be served.
func RunWorker(ctx context.Context, o WorkerOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := newFollowing(&o)
	if err != nil {
		return err
	}
	defer f.wait()
	defer cancel()
	if err = f.follow(ctx); err == nil {
		err = f.run(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// check refuses what cannot work.
func (o *WorkerOptions) check() error {
	switch {
	case o.Bus == nil || o.Attester == nil || o.Collateral == nil:
		return schemas.FieldError("worker", "bus, attester and collateral are required")
	case o.OpenEngine == nil && len(o.Engines) == 0:
		return schemas.FieldError("worker", "there is no engine")
	}
	if _, err := schemas.ParseOwner(string(o.Owner)); err != nil {
		return err
	}
	return o.Trust.Check()
}

// following is a worker's process with what it follows.
type following struct {
	o          *WorkerOptions
	keeper     *attest.Keeper
	catalogues *enclavecli.Catalogues
	verifier   *attest.Verifier
	session    *enclave.Session
	// bus is the worker's own connection, once there is a session.
	bus   *streams.Bus
	ended []chan struct{}
}

// newFollowing prepares to follow.
func newFollowing(o *WorkerOptions) (*following, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	keeper, err := attest.NewKeeper(o.Trust, attest.KeeperOptions{})
	if err != nil {
		return nil, err
	}
	verifier, err := attest.NewVerifier(attest.Options{Policy: keeper, Collateral: o.Collateral})
	if err != nil {
		return nil, err
	}
	return &following{o: o, keeper: keeper, catalogues: enclavecli.NewCatalogues(o.Trust, o.Log), verifier: verifier}, nil
}

// follow begins to follow policy and catalogue and returns when both are in force.
func (f *following) follow(ctx context.Context) error {
	f.keep(ctx, "policy", func(ctx context.Context) error {
		return f.keeper.Follow(ctx, enclavecli.PolicyFeed(f.o.Bus), f.o.Log)
	})
	f.keep(ctx, "catalogue", func(ctx context.Context) error { return f.catalogues.Follow(ctx, f.o.Bus) })
	if err := f.catalogues.Wait(ctx); err != nil {
		return err
	}
	for {
		changed := f.keeper.Changed()
		if _, err := f.keeper.Current(); !errors.Is(err, schemas.KindUnavailable) {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keep follows something until ctx ends, and again when it was lost.
func (f *following) keep(ctx context.Context, what string, follow func(context.Context) error) {
	ended := make(chan struct{})
	f.ended = append(f.ended, ended)
	go func() {
		defer close(ended)
		for {
			err := follow(ctx)
			if ctx.Err() != nil {
				return
			}
			f.o.Log.Warn("lost what the worker follows", "what", what, "error", err)
			pause(ctx, retryFollow)
		}
	}()
}

// wait returns when nothing is followed any more.
func (f *following) wait() {
	for _, ended := range f.ended {
		<-ended
	}
}

// run opens the engines and runs the worker.
func (f *following) run(ctx context.Context) error {
	models, err := f.models()
	if err != nil {
		return err
	}
	ids := make([]schemas.ModelID, len(models))
	for i := range models {
		ids[i] = models[i].ID
	}
	f.session, err = enclave.NewSession(enclave.SessionConfig{
		Attester: f.o.Attester, Verifier: f.verifier, Owner: f.o.Owner, Models: ids, Ask: f.o.Ask,
	})
	if err != nil {
		return err
	}
	f.bus = f.o.Bus
	if f.o.Login != nil {
		if f.bus, err = f.o.Login(ctx, f.session); err != nil {
			return err
		}
		defer f.hangUp(ctx)
	}
	engines := map[schemas.ModelID]consumers.Engine{}
	for i := range models {
		if engine, ok := f.o.Engines[models[i].ID]; ok {
			engines[models[i].ID] = engine
			continue
		}
		engine, clean, err := f.open(ctx, &models[i])
		if err != nil {
			return err
		}
		defer clean()
		defer func() {
			if err := engine.Close(); err != nil {
				f.o.Log.Warn("an engine did not close", "model", models[i].Slug, "error", err)
			}
		}()
		engines[models[i].ID] = engine
	}
	return f.serve(ctx, engines)
}

// hangUpTimeout bounds the end of the worker's own connection.
const hangUpTimeout = 5 * time.Second

// hangUp closes the worker's own connection.
func (f *following) hangUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpTimeout)
	defer cancel()
	if err := f.bus.Close(ctx); err != nil {
		f.o.Log.Warn("the worker's connection did not close cleanly", "error", err)
	}
}

// serve runs the worker itself.
func (f *following) serve(ctx context.Context, engines map[schemas.ModelID]consumers.Engine) error {
	var last *schemas.Catalogue // in force when the newest one has expired: brokers refuse then, not we
	worker, err := consumers.NewWorker(consumers.Config{
		Bus: f.bus, Session: f.session, Engines: engines,
		Catalogue: func() *schemas.Catalogue {
			if c, err := f.catalogues.Current(); err == nil {
				return c
			}
			return last
		},
		PolicyChanged: f.keeper.Changed, Environment: f.o.Trust.Environment, Owner: f.o.Owner, Ask: f.o.Ask,
		Host: f.o.Host, Version: f.o.Version, DrainTimeout: f.o.DrainTimeout, JobTimeout: f.o.JobTimeout,
		StallTimeout: f.o.StallTimeout, Restart: f.o.Restart, Guard: f.o.Guard, Metrics: f.o.Metrics, Tracer: f.o.Tracer, Logger: f.o.Log,
	})
	if err != nil {
		return err
	}
	if last, err = f.catalogues.Current(); err != nil {
		return err
	}
	if f.o.Ready != nil {
		f.o.Ready(worker)
	}
	return worker.Run(ctx)
}

// models are the catalogue's entries of what is to be served.
func (f *following) models() ([]schemas.Model, error) {
	catalogue, err := f.catalogues.Current()
	if err != nil {
		return nil, err
	}
	policy, err := f.keeper.Current()
	if err != nil {
		return nil, err
	}
	admitted := func(id schemas.ModelID) bool { _, ok := slices.BinarySearch(policy.Models, id); return ok }
	var models []schemas.Model
	if len(f.o.Models) == 0 {
		for _, m := range catalogue.Models {
			if _, has := f.o.Engines[m.ID]; admitted(m.ID) && (has || f.o.OpenEngine != nil) {
				models = append(models, m)
			}
		}
	}
	for _, name := range f.o.Models {
		m, err := catalogue.Find(name)
		if err != nil {
			return nil, err
		}
		if !admitted(m.ID) {
			return nil, &schemas.Error{Kind: schemas.KindPolicy, Field: "model", Message: name + " is not admitted by the policy in force"}
		}
		models = append(models, *m)
	}
	if len(models) == 0 || len(models) > consumers.MaxWorkerModels {
		return nil, schemas.FieldError("models", "must be 1 to 32 of the catalogue that the policy admits")
	}
	return models, nil
}

// open gets a model's weights and opens its engine on them. clean removes the weights.
func (f *following) open(ctx context.Context, m *schemas.Model) (engine consumers.Engine, clean func(), err error) {
	if f.o.OpenEngine == nil {
		return nil, nil, schemas.FieldError("engine", "there is none for "+string(m.ID))
	}
	root := f.o.WeightsDir
	if root == "" {
		root = os.TempDir()
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, nil, schemas.Errorf(schemas.KindDenied, "the folder for weights: %w", err)
	}
	dir, err := os.MkdirTemp(root, m.Slug+"-")
	if err != nil {
		return nil, nil, schemas.Errorf(schemas.KindDenied, "the folder for weights: %w", err)
	}
	clean = func() {
		if err := os.RemoveAll(dir); err != nil {
			f.o.Log.Error("opened weights could not be removed", "model", m.Slug, "error", err)
		}
	}
	for wait := minWeights; ; wait = min(2*wait, maxWeights) {
		err = f.fetch(ctx, m, dir)
		if err == nil || !schemas.Retriable(err) || ctx.Err() != nil {
			break
		}
		f.o.Log.Warn("weights cannot be had yet", "model", m.Slug, "error", err, "after", wait)
		pause(ctx, wait)
	}
	if err == nil {
		engine, err = f.o.OpenEngine(ctx, dir, *m)
	}
	if err != nil {
		clean()
		return nil, nil, err
	}
	f.o.Log.Info("the engine is open", "model", m.Slug, "dir", filepath.Base(dir))
	return engine, clean, nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
