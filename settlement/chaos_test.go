package settlement_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// chaosChain is a chain under chaos: the one in memory, or the devnet over ADNL.
type chaosChain interface {
	settlement.Treasury
	// advance lets time pass and makes a block.
	advance(time.Duration)
	// arrive brings money to the treasury, drain takes all but an amount away behind the payer's back.
	arrive(n schemas.NanoTON, memo string)
	drain(leave schemas.NanoTON)
	// owners are n addresses, of which the first few refuse money until the chaos ends, and lose some of it to the chain.
	owners(n int) []schemas.Owner
	// paid is what an address has received from the treasury and kept, by the chain's own account, and lost what the chain
	// took of what came back from there.
	paid(schemas.Owner) schemas.NanoTON
	lost(schemas.Owner) schemas.NanoTON
	// misbehave changes how the liteservers treat messages and questions; nil ends the chaos.
	misbehave(*rand.Rand)
	// release delivers one message that was held back, if there is one.
	release(*rand.Rand)
	// timeout is how long a batch can be accepted.
	timeout() time.Duration
}

// chaosEnv sets the number of seeds; the default keeps the ordinary test run short.
const chaosEnv = "COCOON_CHAOS_SEEDS"

// chaosSeeds is how many seeds to run.
func chaosSeeds(t testing.TB, few int) int {
	s := os.Getenv(chaosEnv)
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", chaosEnv, err)
	}
	return n
}

// chaosShape says how long and how wild a run is.
type chaosShape struct {
	wild, calm int // rounds
	restores   bool
	owners     int
	drains     int // one drain in so many rounds
}

// errCrash is a crash: the process ends here and starts again from what is durable.
var errCrash = errors.New("crash")

// chaosCount counts what the chaos produced, so that a test that never gets to the point fails.
type chaosCount struct {
	crashes, expired, skipped, drains, restores, strangers, bounces, deposits, batches, payments int
}

// add sums two counts.
func (c *chaosCount) add(d chaosCount) {
	c.crashes += d.crashes
	c.expired += d.expired
	c.skipped += d.skipped
	c.drains += d.drains
	c.restores += d.restores
	c.strangers += d.strangers
	c.bounces += d.bounces
	c.deposits += d.deposits
	c.batches += d.batches
	c.payments += d.payments
}

// complete fails the test if something never happened that the chaos is there for.
func (c *chaosCount) complete(t *testing.T) {
	t.Helper()
	for what, n := range map[string]int{
		"crash": c.crashes, "expired batch": c.expired, "skipped item": c.skipped, "drain": c.drains,
		"restore": c.restores, "stranger": c.strangers, "bounce": c.bounces, "deposit": c.deposits,
	} {
		if n == 0 {
			t.Errorf("the chaos never produced a %s", what)
		}
	}
}

// chaosRun is one seed.
type chaosRun struct {
	*ledgertest.Network
	t      testing.TB
	r      *rand.Rand
	chain  chaosChain
	shape  chaosShape
	path   string
	backup string
	// mutate stands between payer and treasury; mutants of the payer are made with it.
	mutate  func(settlement.Treasury) settlement.Treasury
	journal *faultyJournal
	payer   *settlement.Payer
	intake  *settlement.Intake
	tenant  settlement.Tenant
	owners  []schemas.Owner
	earned  map[schemas.Owner]schemas.NanoTON
	// deposited is what tenants brought to the treasury, unnamed what strangers did.
	deposited, unnamed schemas.NanoTON
	calm               bool
	count              chaosCount
	// mutant says that the payer is known to be wrong; broken is the error with which it gave itself away.
	mutant bool
	broken error
}

// faultyJournal loses writes, or does them and reports an error.
type faultyJournal struct {
	memJournal
	fault func() error
}

func (j *faultyJournal) Put(ctx context.Context, n uint64, record []byte) error {
	if err := j.fault(); err != nil { // lost
		return err
	}
	if err := j.memJournal.Put(ctx, n, record); err != nil {
		return err
	}
	return j.fault() // done, but reported as an error
}

// chaosFunds is what the tenant has at the start, for all the jobs of a run.
const chaosFunds = 1_000_000 * schemas.TON

// newChaos sets a seed up.
func newChaos(t testing.TB, seed uint64, chain chaosChain, shape chaosShape) *chaosRun {
	t.Helper()
	c := &chaosRun{
		t: t, r: rand.New(rand.NewPCG(seed, 17)), chain: chain, shape: shape, path: filepath.Join(t.TempDir(), "ledger.db"),
		earned: map[schemas.Owner]schemas.NanoTON{}, mutate: func(t settlement.Treasury) settlement.Treasury { return t },
	}
	c.journal = &faultyJournal{fault: c.maybe(20)}
	clock := ledgertest.NewClock()
	c.Network = ledgertest.NewNetwork(t, openLedger(t, c.path, clock), clock)
	tenant, err := c.Ledger.Tenant(t.Context(), c.Tenant("alice", chaosFunds))
	if err != nil {
		t.Fatal(err)
	}
	c.tenant, c.owners = tenant, chain.owners(shape.owners)
	return c
}

// maybe crashes once in n times while the chaos lasts.
func (c *chaosRun) maybe(n int) func() error {
	return func() error {
		if c.calm || c.r.IntN(n) > 0 {
			return nil
		}
		return errCrash
	}
}

// start makes payer and intake anew, as a process does that starts.
func (c *chaosRun) start() {
	c.t.Helper()
	crash := c.maybe(30)
	c.Ledger.SetFault(func(string) error { return crash() })
	var err error
	c.payer, err = settlement.NewPayer(settlement.PayerConfig{
		Ledger: c.Ledger, Treasury: c.mutate(c.chain), Journal: c.journal, Threshold: 1, Floor: schemas.TON / 10, BatchSize: 1 + c.r.IntN(20), MaxOpen: 3,
		OnAlert: c.alert,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if c.intake, err = settlement.NewIntake(c.Intake()); err != nil {
		c.t.Fatal(err)
	}
}

// alert counts.
func (c *chaosRun) alert(a settlement.Alert) {
	switch a.Kind {
	case settlement.AlertExpired:
		c.count.expired++
	case settlement.AlertSkipped:
		c.count.skipped++
	case settlement.AlertUnknownPayment:
		c.count.strangers++
	case settlement.AlertBounced:
		c.count.bounces++
	}
}

// work has jobs done, whose receipts land in the stream.
func (c *chaosRun) work() {
	for range c.r.IntN(4) {
		owner := c.owners[c.r.IntN(len(c.owners))]
		tokens := uint64(100 + c.r.IntN(3000))
		c.Do(ledgertest.Work{Tenant: c.tenant.ID, Worker: "w" + strconv.Itoa(c.r.IntN(3)), Owner: owner, Usage: schemas.Usage{Prompt: tokens}})
		c.earned[owner] += schemas.NanoTON(tokens) * 90_000
	}
}

// step is one step of a service; a crash starts the process again.
func (c *chaosRun) step(err error) {
	c.t.Helper()
	switch {
	case err == nil, errors.Is(err, settlement.ErrStopped), schemas.Retriable(err) && !errors.Is(err, errCrash):
	case errors.Is(err, errCrash):
		c.count.crashes++
		c.start()
	case c.mutant:
		c.broken = err
	default:
		c.t.Fatal(err)
	}
}

// round is one round of chaos.
func (c *chaosRun) round(n int) {
	c.t.Helper()
	ctx := c.t.Context()
	if n < c.shape.wild*3/5 {
		c.work()
	}
	if c.Position() < c.Feed.Len() {
		_, err := c.intake.Step(ctx)
		c.step(err)
	}
	skew := time.Duration(c.r.IntN(200)-100) * time.Hour // the payer goes by the chain's clock, whatever its own says
	c.Clock.Add(skew)
	c.step(c.payer.Tick(ctx, false))
	c.Clock.Add(-skew)
	if !c.calm {
		c.mischief(n)
	}
	if n%10 == 9 { // the operator looks at what stopped payouts
		c.resume()
	}
	switch {
	case !c.calm && c.r.IntN(25) == 0: // the chain stands still for longer than a batch lives
		c.chain.advance(c.chain.timeout() + 3*time.Minute)
	case c.calm || c.r.IntN(3) > 0:
		c.chain.advance(time.Duration(1+c.r.IntN(30)) * time.Second)
	}
}

// mischief is what others do to us.
func (c *chaosRun) mischief(n int) {
	c.chain.misbehave(c.r)
	if c.r.IntN(6) == 0 {
		c.chain.release(c.r)
	}
	if c.r.IntN(c.shape.drains) == 0 {
		c.chain.drain(schemas.NanoTON(c.r.IntN(600_000_000)) + 20_000_000)
		c.count.drains++
	}
	if n%15 == 14 {
		c.chain.arrive(20*schemas.TON, settlement.TopUpMemo)
	}
	if c.r.IntN(4) == 0 {
		c.deposit(schemas.NanoTON(c.r.IntN(1_000_000_000)) + 1)
	}
	if c.shape.restores && c.r.IntN(25) == 0 {
		c.swap()
	}
}

// deposit brings money that names the tenant, or nobody.
func (c *chaosRun) deposit(n schemas.NanoTON) {
	c.count.deposits++
	if c.r.IntN(3) == 0 {
		c.unnamed += n
		c.chain.arrive(n, "happy birthday")
		return
	}
	c.deposited += n
	c.chain.arrive(n, c.tenant.Memo)
}

// swap copies the ledger, or puts the copy in its place.
func (c *chaosRun) swap() {
	c.t.Helper()
	if err := c.Ledger.Close(); err != nil {
		c.t.Fatal(err)
	}
	copyTo := filepath.Join(c.t.TempDir(), "copy.db")
	if c.backup == "" {
		copyFile(c.t, c.path, copyTo)
		c.backup = copyTo
	} else {
		c.path, c.backup = c.backup, ""
		c.count.restores++
	}
	c.Ledger = openLedger(c.t, c.path, c.Clock)
	c.start()
}

// resume does what an operator does about payouts that stopped and owners whose address refused one.
func (c *chaosRun) resume() {
	c.t.Helper()
	for _, p := range c.payees() {
		if p.Flagged == "" {
			continue
		}
		if err := c.Ledger.ClearFlag(context.Background(), p.Owner); err != nil && !errors.Is(err, errCrash) {
			c.t.Fatal(err)
		}
	}
	s, err := c.Ledger.Payouts(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	if s.Stopped != "" {
		if err := c.Ledger.ResumePayouts(context.Background(), true); err != nil && !errors.Is(err, errCrash) && !schemas.Retriable(err) {
			c.t.Fatal(err)
		}
	}
}

// run lets the chaos go on, then calms down until everything is judged.
func (c *chaosRun) run() {
	c.t.Helper()
	c.start()
	for n := range c.shape.wild {
		if c.round(n); c.broken != nil {
			return
		}
		c.Check()
	}
	c.calm = true
	c.chain.misbehave(nil)
	c.chain.arrive(1000*schemas.TON, settlement.TopUpMemo)
	c.start()
	for n := range c.shape.calm {
		if n == c.shape.calm/2 {
			c.chain.advance(c.chain.timeout() + 3*time.Minute)
		}
		c.round(c.shape.wild + n)
	}
	c.Check()
}

// payees are the owners by the book.
func (c *chaosRun) payees() []settlement.Payee {
	c.t.Helper()
	payees, err := c.Ledger.Payees(context.Background(), 1000)
	if err != nil {
		c.t.Fatal(err)
	}
	return payees
}

// wrong counts owners that have not received exactly what they earned, less what the chain took for bringing it back,
// and balances that say otherwise: of owners, of the tenant, and of suspense.
func (c *chaosRun) wrong() (wrong int) {
	c.t.Helper()
	books := map[schemas.Owner]settlement.Payee{}
	for _, p := range c.payees() {
		books[p.Owner] = p
	}
	for owner, earned := range c.earned {
		if got, lost := c.chain.paid(owner), c.chain.lost(owner); got+lost != earned || books[owner].Paid != earned || books[owner].Owed != 0 {
			wrong++
			if wrong < 4 {
				c.t.Logf("owner …%s earned %s, received %s, lost %s, the book says paid %s owed %s in flight %s",
					owner[60:], earned, got, lost, books[owner].Paid, books[owner].Owed, books[owner].Inflight)
			}
		}
	}
	tenant, err := c.Ledger.Balance(context.Background(), c.tenant.ID)
	if err != nil {
		c.t.Fatal(err)
	}
	if got := tenant.Paid + tenant.Stake; got != chaosFunds+c.deposited {
		wrong++
		c.t.Logf("the tenant brought %s, the book says %s", chaosFunds+c.deposited, got)
	}
	if got := c.Balance(settlement.AcctSuspense); got != c.unnamed {
		wrong++
		c.t.Logf("strangers brought %s, %s is in suspense", c.unnamed, got)
	}
	batches, err := c.Ledger.PayoutBatches(context.Background(), 0, 1<<20)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, b := range batches {
		c.count.batches++
		if b.State == "done" {
			c.count.payments += b.Items
		}
	}
	return wrong
}

// reconciled fails unless ledger, chain and stream agree.
func (c *chaosRun) reconciled() {
	c.t.Helper()
	in := c.Intake()
	r, err := settlement.Reconcile(context.Background(), settlement.ReconcileConfig{Ledger: c.Ledger, Treasury: c.chain, Intake: &in})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, d := range r.Differences {
		c.t.Errorf("reconcile: %+v", d)
	}
	if r.Receipts != c.Feed.Len() || r.Payouts == 0 {
		c.t.Errorf("reconcile compared %d of %d receipts and %d payouts", r.Receipts, c.Feed.Len(), r.Payouts)
	}
}

// chaosRefusers is how many owners refuse money while the chaos lasts.
const chaosRefusers = 3

// memChaos is a chain in memory under chaos.
type memChaos struct {
	memTreasury
	down bool
	next ton.QueryID
}

// newMemChaos starts one.
func newMemChaos() *memChaos {
	return &memChaos{memTreasury: newMemChain(20 * schemas.TON).pays(), next: 5_000_000}
}

var _ chaosChain = (*memChaos)(nil)

func (m *memChaos) timeout() time.Duration               { return m.c.timeout }
func (m *memChaos) advance(d time.Duration)              { m.c.produce(d) }
func (m *memChaos) paid(o schemas.Owner) schemas.NanoTON { return m.c.received[o] }
func (m *memChaos) lost(o schemas.Owner) schemas.NanoTON { return m.c.lost[o] }

func (m *memChaos) arrive(n schemas.NanoTON, memo string) {
	m.c.arrive(&m.c.treasury, ledgertest.Owner(1), n, memo)
}

func (m *memChaos) owners(n int) []schemas.Owner {
	all := make([]schemas.Owner, n)
	for i := range all {
		all[i] = ledgertest.Owner(0xbb00 + i)
	}
	for _, o := range all[:chaosRefusers] {
		m.c.bounce[o] = true
	}
	return all
}

func (m *memChaos) misbehave(r *rand.Rand) {
	if r == nil {
		m.c.fault, m.down = nil, false
		clear(m.c.bounce)
		return
	}
	m.down = r.IntN(10) == 0
	m.c.fault = func() sendFault {
		if r.IntN(4) == 0 {
			return sendDelivered
		}
		return sendFault(r.IntN(4))
	}
}

func (m *memChaos) release(r *rand.Rand) {
	if n := len(m.c.held); n > 0 {
		m.c.deliver(r.IntN(n))
	}
}

func (m *memChaos) drain(leave schemas.NanoTON) {
	amount := m.c.treasury.balance - leave - schemas.TON/10
	if amount <= 0 {
		return
	}
	m.next = m.next.Next()
	signed, err := m.Sign(ton.Batch{QueryID: m.next, CreatedAt: ton.CreatedAt(m.c.at()), Transfers: []ton.Transfer{{To: ledgertest.Owner(0xee), Amount: amount}}})
	if err != nil {
		panic(err)
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.c.mempool = append(m.c.mempool, signed.BoC)
}

// errAway is a liteserver that does not answer.
var errAway = errors.New("liteserver does not answer")

func (m *memChaos) State(ctx context.Context) (ton.State, error) {
	if m.down {
		return ton.State{}, errAway
	}
	return m.memTreasury.State(ctx)
}

func (m *memChaos) History(ctx context.Context, after ton.Cursor, limit int) (ton.Page, error) {
	if m.down {
		return ton.Page{}, errAway
	}
	return m.memTreasury.History(ctx, after, min(limit, 5)) // short pages
}

// TestExactlyOnceUnderChaos: crashes around every commit and every publication, sends lost, misreported, held back and
// delivered late, a chain that stands still for longer than a batch lives, a treasury drained behind our back, old
// copies of the ledger put in its place. In the end every owner has received exactly what it earned, and the postings
// add up to zero after every step.
func TestExactlyOnceUnderChaos(t *testing.T) {
	t.Parallel()
	var total chaosCount
	for seed := range uint64(chaosSeeds(t, 3)) {
		t.Run("seed "+strconv.FormatUint(seed, 10), func(t *testing.T) {
			c := newChaos(t, seed, newMemChaos(), chaosShape{wild: 150, calm: 60, restores: true, owners: 30, drains: 12})
			c.run()
			if n := c.wrong(); n > 0 {
				t.Fatalf("%d owners are wrong", n)
			}
			c.reconciled()
			total.add(c.count)
		})
	}
	t.Logf("%+v", total)
	total.complete(t)
}
