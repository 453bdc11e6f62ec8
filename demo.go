//go:build !worker

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
)

// Sizes and times of the demo.
const (
	// demoLines is how many lines are submitted by default, half by each tenant; at least minDemoLines show every task.
	demoLines    = 408
	minDemoLines = 34
	maxDemoLines = 3400
	// demoDeposit is what each tenant pays in.
	demoDeposit = 60 * schemas.TON
	// demoStake is what of it stays locked.
	demoStake = 20 * schemas.TON
	// demoLease is how long a job stays with a worker that has gone silent. Production waits 30 s; the demo kills a worker
	// and shows what comes next.
	demoLease = 5 * time.Second
	// demoBlockTime is the time between blocks of the embedded chain.
	demoBlockTime = 150 * time.Millisecond
	// killAt is the share of answered lines at which one worker is killed.
	killAt = 0.35
	// settleTimeout bounds the wait for the last receipt to be booked and paid.
	settleTimeout = 60 * time.Second
	// demoWorkers share the work; the first one is killed.
	demoWorkers = 2
)

// demoOptions are the flags of the demo.
type demoOptions struct {
	lines    int
	json     bool
	keep     bool
	logLevel string
}

// demoCommand shows the whole network at work.
func demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the whole network work, on a temporary folder (about a minute)",
		Long: `Run the whole network on a temporary folder and let it work.

Two tenants pay in on the embedded chain and submit a batch each; two attested workers,
processes of their own, share the queue; one of them is killed with kill -9 in the middle.
Everything that crosses or is kept by the message system is searched for prompts and
answers. Then receipts are verified, and the ledger is compared with the chain.

The hardware is simulated and the money is the embedded chain's. Exit code 0 only when
every check holds.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.IntVar(&o.lines, "lines", demoLines, fmt.Sprintf("batch lines to submit, %d to %d", minDemoLines, maxDemoLines))
	f.BoolVar(&o.json, "json", false, "print the result as one JSON object")
	f.BoolVar(&o.keep, "keep", false, "keep the temporary folder and say where it is")
	f.StringVar(&o.logLevel, "log-level", "error", "debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.lines < minDemoLines || o.lines > maxDemoLines {
			return cli.Usagef("--lines must lie between %d and %d", minDemoLines, maxDemoLines)
		}
		return demo(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// demo runs the story on a folder of its own, which is gone afterwards however it ends.
func demo(ctx context.Context, o demoOptions, out, errs io.Writer) (err error) {
	started := time.Now()
	dir, err := os.MkdirTemp("", "cocoon-demo-")
	if err != nil {
		return fmt.Errorf("temporary folder: %w", err)
	}
	if o.keep {
		fmt.Fprintln(errs, "cocoon: the folder stays in", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	story := io.Discard
	if !o.json {
		story = out
	}
	d := &demoRun{options: o, dir: dir, story: newStory(story, errs), report: demoReport{Accuracy: map[string]float64{}}}
	if err := d.play(ctx); err != nil {
		return err
	}
	d.report.WallSeconds = time.Since(started).Seconds()
	if o.json {
		err = writeReport(out, &d.report)
	} else {
		d.story.checks(&d.report)
	}
	if failed := d.report.failed(); err == nil && failed > 0 {
		return schemas.Errorf(schemas.KindInternal, "%d of %d checks failed", failed, len(d.report.Checks))
	}
	return err
}

// demoRun is one run of the demo.
type demoRun struct {
	options demoOptions
	dir     string
	story   *story
	report  demoReport

	net     *network
	scan    *wireScan
	tenants []*demoTenant
	workers []*workerProcess
	owners  []schemas.Owner
}

// demoTenant is one of the two who submit.
type demoTenant struct {
	name      string
	identity  *enclave.Tenant
	account   settlement.Tenant
	questions []question
	folder    string
	results   map[string]resultLine
	summary   batch.Summary
}

// play runs the story from the opening of the network to the last check.
func (d *demoRun) play(ctx context.Context) error {
	log, err := newLogger(d.story.errs, d.options.logLevel)
	if err != nil {
		return err
	}
	d.net, err = openNetwork(ctx, networkConfig{
		Stake: demoStake,
		Data:  filepath.Join(d.dir, "network"), NATS: "127.0.0.1:0", BlockTime: demoBlockTime, Lease: demoLease, Log: log,
		// Whatever has been earned is paid at once, and often: the demo shows payouts, not how to save their fees.
		Payouts: settlement.PayerConfig{Threshold: schemas.TON / 10, Least: schemas.TON / 1000, MaxAge: 5 * time.Second, Poll: time.Second},
	})
	if err != nil {
		return err
	}
	defer d.net.close()
	ctx, stop := context.WithCancel(ctx)
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.net.run(gctx) })
	group.Go(func() error {
		defer stop()
		return d.act(gctx)
	})
	return group.Wait()
}

// act is the story itself, while the network runs beside it.
func (d *demoRun) act(ctx context.Context) error {
	if err := d.net.ready(ctx); err != nil {
		return err
	}
	if err := d.cast(ctx); err != nil {
		return err
	}
	d.story.open(d)
	tapped, stopTap, err := d.tap(ctx)
	if err != nil {
		return err
	}
	defer stopTap()
	defer d.killAll()
	if err := d.startWorkers(ctx); err != nil {
		return err
	}
	if err := d.submit(ctx); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	stopTap()
	if err := <-tapped; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("listen to the wire: %w", err)
	}
	return d.check(ctx)
}

// cast makes the tenants, with money paid in on chain, and the owners of the workers.
func (d *demoRun) cast(ctx context.Context) error {
	all, err := questions(d.options.lines)
	if err != nil {
		return err
	}
	for i, name := range []string{"alice", "bob"} {
		t := &demoTenant{name: name, folder: filepath.Join(d.dir, name)}
		if t.identity, t.account, err = d.net.tenant(ctx, name); err != nil {
			return err
		}
		key, err := d.net.data.key("wallet-" + name + ".key")
		if err != nil {
			return err
		}
		if err := d.net.money.pay(ctx, key, t.account, demoDeposit); err != nil {
			return fmt.Errorf("deposit of %s: %w", name, err)
		}
		for j, q := range all {
			if j%2 == i {
				t.questions = append(t.questions, q)
			}
		}
		d.tenants = append(d.tenants, t)
	}
	for i := range demoWorkers {
		wallet, err := d.net.data.wallet(d.net.money.chain, fmt.Sprintf("owner-%d.key", i+1))
		if err != nil {
			return err
		}
		d.owners = append(d.owners, wallet.Address())
	}
	return nil
}

// tap begins to search everything that crosses the message system. What it returns is told the end of the tap; calling
// stop ends it.
func (d *demoRun) tap(ctx context.Context) (<-chan error, context.CancelFunc, error) {
	d.scan = newWireScan()
	for _, t := range d.tenants {
		for _, q := range t.questions {
			d.scan.learn(q.Prompt)
			d.scan.learn(q.Answer)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- d.net.bus.Tap(ctx, func() { close(ready) }, func(subject string, header map[string][]string, body []byte) error {
			d.scan.scan(subject, body)
			for name, values := range header {
				for _, v := range values {
					d.scan.scan(subject+" header "+name, []byte(v))
				}
			}
			return nil
		})
	}()
	select {
	case <-ready:
		return ended, stop, nil
	case err := <-ended:
		stop()
		return nil, nil, fmt.Errorf("listen to the wire: %w", err)
	}
}

// submit has both tenants run their batch at the same time, and kills a worker in the middle.
func (d *demoRun) submit(ctx context.Context) error {
	total := 0
	for _, t := range d.tenants {
		total += len(t.questions)
	}
	bar := d.story.progress(total)
	defer bar.close()
	progress := &joined{bar: bar, parts: map[string]batch.Progress{}, killAt: int(killAt * float64(total)), kill: func() { d.killWorker(bar) }}
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range d.tenants {
		group.Go(func() error {
			if err := d.runBatch(ctx, t, progress); err != nil {
				return fmt.Errorf("batch of %s: %w", t.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// runBatch submits a tenant's lines as a batch file, with the SDK a tenant would use, and waits for all answers.
func (d *demoRun) runBatch(ctx context.Context, t *demoTenant, progress *joined) error {
	file, err := batchFile(t.questions, d.net.modelName())
	if err != nil {
		return err
	}
	input := t.folder + ".jsonl"
	if err := os.WriteFile(input, file, 0o600); err != nil {
		return err
	}
	client, err := producers.New(d.net.bus, producers.Options{
		Tenant: t.identity, Trust: d.net.trust, Verifier: d.net.verifier, Logger: d.net.conf.Log,
	})
	if err != nil {
		return err
	}
	defer client.Close(context.WithoutCancel(ctx))
	t.summary, err = batch.Run(ctx, client, t.folder, batch.Options{Input: input, Class: schemas.Batch, Timeout: time.Hour},
		batch.RunOptions{Progress: func(p batch.Progress) { progress.update(t.name, p) }, Logger: d.net.conf.Log})
	if err != nil {
		return err
	}
	t.results, err = readResults(t.folder)
	return err
}

// joined adds up the progress of both batches.
type joined struct {
	bar    *progressBar
	killAt int
	kill   func()

	mu     sync.Mutex // guards what follows
	parts  map[string]batch.Progress
	killed bool
}

// update takes the progress of one batch, moves the bar, and kills the worker when it is time.
func (j *joined) update(name string, p batch.Progress) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.parts[name] = p
	done, cost := 0, schemas.NanoTON(0)
	for _, part := range j.parts {
		done += part.Completed + part.Failed
		cost += part.Cost
	}
	if done >= j.killAt && !j.killed {
		j.killed = true
		j.kill()
	}
	j.bar.set(done, cost)
}

// settle waits until every outcome is booked and everything earned is paid and proven on chain.
func (d *demoRun) settle(ctx context.Context) error {
	d.story.say("Settling: booking the last receipts, paying the owners, reading the chain back.")
	return eventually(ctx, settleTimeout, "all receipts to be booked and paid", func(ctx context.Context) (bool, error) {
		booked, err := d.bookedJobs(ctx)
		if err != nil || len(booked) < d.lines() {
			return false, err
		}
		payouts, err := d.net.money.ledger.Payouts(ctx)
		return err == nil && payouts.Owed == 0 && payouts.Inflight == 0, err
	})
}

// lines is how many lines were submitted.
func (d *demoRun) lines() int {
	n := 0
	for _, t := range d.tenants {
		n += len(t.questions)
	}
	return n
}

// bookedJobs lists what the ledger charged the tenants for, one movement a job.
func (d *demoRun) bookedJobs(ctx context.Context) ([]settlement.Movement, error) {
	var jobs []settlement.Movement
	for _, t := range d.tenants {
		for after := int64(0); ; {
			page, err := d.net.money.ledger.Movements(ctx, settlement.TenantAccount(t.identity.ID()), after, settlement.MaxMovements)
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break
			}
			for _, m := range page {
				if m.Kind == "job" {
					jobs = append(jobs, m)
				}
			}
			after = page[len(page)-1].Entry
		}
	}
	return jobs, nil
}
