package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
)

// Sizes of the benchmark; the second is that of --quick.
const (
	benchReceipts, quickReceipts = 60_000, 5_000
	benchOwners, quickOwners     = 10_000, 1_000
	benchGroup                   = 1000
)

// BenchSettle measures intake beside its two floors, verifying the same signatures with nothing around it and
// inserting the same rows with nothing around it, and a payout of 10,000 workers on the devnet.
func BenchSettle(ctx context.Context, quick bool) (cli.BenchResult, error) {
	result := cli.BenchResult{Bench: "settle", Notes: []string{
		fmt.Sprintf("%d cores, SQLite with synchronous=FULL in %s", runtime.GOMAXPROCS(0), os.TempDir()),
		"ratios are of " + clockName + " per receipt; booking is intake without the signatures, which sqlite_floor does not have either",
		"ed25519_floor is crypto/ed25519; intake verifies known keys with tables, and knows all here: one broker's and one worker's",
		"intake_vs_sqlite_floor has no goal: two signatures alone cost several times the rows, and only cores make up for that",
	}}
	receipts, owners := benchReceipts, benchOwners
	if quick {
		receipts, owners = quickReceipts, quickOwners
		result.Notes = append(result.Notes, fmt.Sprintf("quick: %d receipts and %d workers instead of %d and %d", receipts, owners, benchReceipts, benchOwners))
	}
	dir, err := os.MkdirTemp("", "cocoon-bench-")
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(dir)
	for _, part := range []func(context.Context, string, int) ([]cli.Figure, error){
		func(ctx context.Context, dir string, _ int) ([]cli.Figure, error) {
			return benchIntake(ctx, dir, receipts)
		},
		func(ctx context.Context, dir string, _ int) ([]cli.Figure, error) {
			return benchPayout(ctx, dir, owners)
		},
	} {
		figures, err := part(ctx, dir, 0)
		if err != nil {
			return result, err
		}
		result.Figures = append(result.Figures, figures...)
	}
	return result, nil
}

// network is a broker, a worker and a tenant whose signed outcomes lie in memory.
type network struct {
	broker, worker ed25519.PrivateKey
	tenant         *enclave.Tenant
	model          schemas.ModelID
	messages       []settlement.Message
}

// newNetwork signs outcomes for a number of owners, in turn, on all cores.
func newNetwork(outcomes, owners int) (*network, error) {
	n := &network{model: schemas.ModelRef{Name: "bench", Revision: "1", Root: schemas.HashOf([]byte("bench"))}.ID()}
	for _, key := range []*ed25519.PrivateKey{&n.broker, &n.worker} {
		_, k, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		*key = k
	}
	var err error
	if n.tenant, err = enclave.NewTenant(); err != nil {
		return nil, err
	}
	n.messages = make([]settlement.Message, outcomes)
	errs := make([]error, runtime.GOMAXPROCS(0))
	var at atomic.Int64
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := int(at.Add(1)) - 1; i < outcomes && errs[w] == nil; i = int(at.Add(1)) - 1 {
				n.messages[i], errs[w] = n.outcome(i, i%owners)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}

// benchOwner is the nth owner's address.
func benchOwner(n int) schemas.Owner {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("owner"), uint64(n)))
	return schemas.Owner(fmt.Sprintf("0:%x", sum))
}

// outcome signs one outcome that is worth 0.09 TON to its owner.
func (n *network) outcome(i, owner int) (settlement.Message, error) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("job"), uint64(i)))
	key := n.worker.Public().(ed25519.PublicKey)
	now := time.Now().UTC().Truncate(time.Second)
	g := schemas.Grant{
		V: 1, Job: schemas.JobIDFrom([16]byte(sum[:16])), Tenant: n.tenant.ID(), Model: n.model, Class: schemas.Standard, Attempt: 1,
		Envelope: schemas.HashOf(sum[:]), Worker: schemas.WorkerIDOf(key), WorkerKey: key, Owner: benchOwner(owner), Catalogue: 1,
		Multiplier: schemas.One, Ceiling: schemas.TON, Policy: 1, Environment: schemas.Simulated,
		Broker: schemas.KeyIDOf(n.broker.Public().(ed25519.PublicKey)), Issued: now.Add(-2 * time.Second), Lease: now.Add(time.Minute),
	}
	grant, err := enclave.SignGrant(n.broker, g)
	if err != nil {
		return settlement.Message{}, err
	}
	r := schemas.Receipt{
		V: 1, Job: g.Job, Grant: schemas.HashOf([]byte(grant)), Worker: g.Worker, Model: g.Model, Usage: schemas.Usage{Prompt: 1000},
		Status: schemas.Succeeded, Result: schemas.HashOf(sum[:8]), Seq: uint64(i) + 1, Started: now.Add(-time.Second), Finished: now,
	}
	if i > 0 {
		r.Prev = schemas.HashOf(sum[:4])
	}
	receipt, err := enclave.SignReceipt(n.worker, r)
	if err != nil {
		return settlement.Message{}, err
	}
	o := schemas.Outcome{Job: g.Job, Tenant: g.Tenant, Model: g.Model, Status: schemas.Succeeded, Grant: grant, Receipt: receipt}
	return settlement.Message{Seq: uint64(i) + 1, Header: o.Header()}, nil
}

// Read is settlement.Feed's.
func (n *network) Read(ctx context.Context, after uint64, limit int) ([]settlement.Message, error) {
	if after >= uint64(len(n.messages)) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return n.messages[after:min(uint64(len(n.messages)), after+uint64(limit))], nil
}

// ledger opens a ledger that knows the network.
func (n *network) ledger(ctx context.Context, path string) (*settlement.Ledger, error) {
	l, err := settlement.OpenLedger(ctx, path, settlement.LedgerOptions{})
	if err != nil {
		return nil, err
	}
	ref, err := schemas.ParseModelID(string(n.model))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	catalogue := &schemas.Catalogue{
		V: 1, Version: 1, Issued: now, Expires: now.Add(24 * time.Hour), Environment: schemas.Simulated, FeeBP: 1000,
		Classes: map[schemas.Class]schemas.BasisPoints{schemas.Priority: 20_000, schemas.Standard: 10_000, schemas.Batch: 5_000},
		Models: []schemas.Model{{
			ID: n.model, Slug: ref.Slug(), Format: "gguf", Context: 4096, Endpoints: []string{"/v1/chat/completions"},
			Price: schemas.Price{Prompt: 100 * schemas.TON},
		}},
	}
	if err := l.AddCatalogue(ctx, catalogue); err != nil {
		return nil, err
	}
	if err := l.AddBrokerKey(ctx, n.broker.Public().(ed25519.PublicKey)); err != nil {
		return nil, err
	}
	if _, err := l.CreateTenant(ctx, settlement.Tenant{ID: n.tenant.ID(), Key: n.tenant.Public()}); err != nil {
		return nil, err
	}
	return l, l.Fund(ctx, n.tenant.ID(), settlement.MaxAmount/2, "bench")
}

// cost is what a number of receipts took.
type cost struct {
	wall, cpu time.Duration
}

// stopwatch measures what fn takes.
func stopwatch(fn func() error) (cost, error) {
	start, before := time.Now(), benchClock()
	err := fn()
	return cost{time.Since(start), benchClock() - before}, err
}

// with runs fn on a fresh ledger in path.
func (n *network) with(ctx context.Context, path string, fn func(context.Context, *settlement.Ledger) (cost, error)) (cost, error) {
	l, err := n.ledger(ctx, path)
	if err != nil {
		return cost{}, err
	}
	took, err := fn(ctx, l)
	return took, firstError(err, l.Close())
}

// intake makes the intake of a ledger.
func (n *network) intake(l *settlement.Ledger) (*settlement.Intake, error) {
	return settlement.NewIntake(settlement.IntakeConfig{Ledger: l, Feed: n, Environment: schemas.Simulated, Group: benchGroup})
}

// take runs the intake as the service does, until every outcome is booked.
func (n *network) take(ctx context.Context, l *settlement.Ledger) (cost, error) {
	in, err := n.intake(l)
	if err != nil {
		return cost{}, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	took, err := stopwatch(func() error {
		go func() { ended <- in.Run(running) }()
		for in.Stats().Position < uint64(len(n.messages)) {
			changed := l.Changed()
			if in.Stats().Position >= uint64(len(n.messages)) {
				break
			}
			select {
			case <-changed:
			case <-time.After(benchPoll): // the counters follow the commit
			case err := <-ended:
				return firstError(err, ctx.Err())
			}
		}
		return nil
	})
	stop()
	if err == nil {
		err = <-ended
	}
	if s := in.Stats(); err == nil && s.Booked != uint64(len(n.messages)) {
		err = fmt.Errorf("%d of %d receipts were booked", s.Booked, len(n.messages))
	}
	return took, err
}

// benchPoll is how long to wait at most before looking again whether the intake is done.
const benchPoll = 5 * time.Millisecond

// book books the outcomes group by group and returns what the booking took, without the judging before it, and without
// the first group, which opens the owners' accounts.
func (n *network) book(ctx context.Context, l *settlement.Ledger) (booking cost, err error) {
	in, err := n.intake(l)
	if err != nil {
		return booking, err
	}
	for in.Stats().Position < uint64(len(n.messages)) {
		first := in.Stats().Position == 0
		group, err := in.Next(ctx)
		if err != nil {
			return booking, err
		}
		took, err := stopwatch(func() error { return group.Book(ctx) })
		if err != nil {
			return booking, err
		}
		if !first {
			booking.wall, booking.cpu = booking.wall+took.wall, booking.cpu+took.cpu
		}
	}
	return booking, nil
}

// benchIntake measures intake and its floors in turns, three times, and keeps the best of each, so that what else happens
// on the machine befalls all alike.
func benchIntake(ctx context.Context, dir string, receipts int) ([]cli.Figure, error) {
	n, err := newNetwork(receipts, 500)
	if err != nil {
		return nil, err
	}
	parts := []struct {
		name string
		of   int // how many receipts it is about
		run  func(path string) (cost, error)
	}{
		{"intake", receipts, func(path string) (cost, error) { return n.with(ctx, path, n.take) }},
		{"booking", receipts - benchGroup, func(path string) (cost, error) { return n.with(ctx, path, n.book) }},
		{"ed25519_floor", receipts, func(string) (cost, error) { return stopwatch(n.verify) }},
		{"sqlite_floor", receipts, func(path string) (cost, error) { return n.insert(ctx, path) }},
	}
	best := map[string]cost{} // of one receipt
	for round := range 3 {
		for _, p := range parts {
			c, err := p.run(filepath.Join(dir, fmt.Sprintf("%s%d.db", p.name, round)))
			if err != nil {
				return nil, err
			}
			c = cost{c.wall / time.Duration(p.of), c.cpu / time.Duration(p.of)}
			if b, ok := best[p.name]; !ok || c.cpu < b.cpu {
				best[p.name] = c
			}
		}
	}
	var figures []cli.Figure
	for _, p := range parts {
		figures = append(figures,
			cli.Reported(p.name, "receipts/s", 1/best[p.name].wall.Seconds()),
			cli.Reported(p.name+"_cost", "us/receipt", float64(best[p.name].cpu.Nanoseconds())/1000))
	}
	intake, booking := best["intake"].cpu.Seconds(), best["booking"].cpu.Seconds()
	verify, insert := best["ed25519_floor"].cpu.Seconds(), best["sqlite_floor"].cpu.Seconds()
	return append(figures,
		cli.AtLeast("intake_vs_ed25519_floor", "ratio", verify/intake, 0.5),
		cli.AtLeast("intake_vs_both_floors", "ratio", (verify+insert)/intake, 0.5),
		cli.AtLeast("booking_vs_sqlite_floor", "ratio", insert/booking, 0.5),
		cli.Reported("intake_vs_sqlite_floor", "ratio", insert/intake),
	), nil
}

// firstError returns the first error that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// signed is what one signature is over.
type signed struct {
	text, signature []byte
	key             ed25519.PublicKey
}

// verify is the first floor: the two signatures of each receipt, on all cores, and nothing else.
func (n *network) verify() error {
	all := make([]signed, 0, 2*len(n.messages))
	for _, m := range n.messages {
		for header, key := range map[string]ed25519.PrivateKey{schemas.HeaderGrant: n.broker, schemas.HeaderReceipt: n.worker} {
			jws := m.Header[header][0]
			dot := strings.LastIndexByte(jws, '.')
			sig, err := base64.RawURLEncoding.DecodeString(jws[dot+1:])
			if err != nil {
				return err
			}
			all = append(all, signed{[]byte(jws[:dot]), sig, key.Public().(ed25519.PublicKey)})
		}
	}
	var bad atomic.Int64
	var at atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(at.Add(1)) - 1; i < len(all); i = int(at.Add(1)) - 1 {
				if !ed25519.Verify(all[i].key, all[i].text, all[i].signature) {
					bad.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if bad.Load() > 0 {
		return fmt.Errorf("%d signatures do not verify", bad.Load())
	}
	return nil
}

// insert is the second floor: the rows that the ledger keeps for each receipt, by prepared statements of many rows in
// transactions of the same size, into the same tables with the same settings, and nothing else.
func (n *network) insert(ctx context.Context, path string) (cost, error) {
	l, err := n.ledger(ctx, path) // makes the tables
	if err != nil {
		return cost{}, err
	}
	if err := l.Close(); err != nil {
		return cost{}, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)&_pragma=cache_size(-65536)&_pragma=wal_autocheckpoint(4096)&_txlock=immediate")
	if err != nil {
		return cost{}, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "INSERT INTO accounts (id, name) VALUES (9001, 'a'), (9002, 'b'), (9003, 'c'); INSERT INTO workers VALUES (1, 'w'); INSERT INTO models VALUES (1, 'm')"); err != nil {
		return cost{}, err
	}
	return stopwatch(func() error { return bareInserts(ctx, db, len(n.messages)) })
}
