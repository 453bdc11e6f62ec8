package settlement_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/chaintest"
	"github.com/cocoon-network/cocoon/settlement/ledgertest"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

// devChaos is the devnet under chaos: real wallet code in a real VM, read over ADNL under the Secure policy from two
// liteservers, of which one may be down, late, frozen in the past, forging, or hiding the wallet.
type devChaos struct {
	*ton.Treasury
	t     testing.TB
	net   *chaintest.Devnet
	other *tonnet.Net // a forged network, consistent in itself
	next  ton.QueryID
	// refuse names owners whose transfers ask for what is refused to be sent back: contracts that throw, and an address
	// without code.
	refuse map[schemas.Owner]bool
}

var _ chaosChain = (*devChaos)(nil)

// newDevChaos starts a devnet with a funded treasury.
func newDevChaos(t testing.TB) *devChaos {
	t.Helper()
	d := &devChaos{t: t, net: chaintest.New(t, chaintest.Options{ADNL: true, Servers: 2, QueryTimeout: 300 * time.Millisecond}), next: 5_000_000}
	treasury, err := d.net.Connect(t).Treasury(ledgertest.Key("treasury"), ton.TreasuryOptions{Timeout: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	d.Treasury = treasury
	if d.other, err = tonnet.Open(tonnet.Config{Now: d.net.Clock.Now, Seed: []byte("another network")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.other.Close() })
	d.arrive(20*schemas.TON, settlement.TopUpMemo)
	d.net.Settle(t)
	return d
}

func (d *devChaos) timeout() time.Duration               { return d.Timeout() }
func (d *devChaos) advance(by time.Duration)             { d.net.Step(d.t, by) }
func (d *devChaos) paid(o schemas.Owner) schemas.NanoTON { return d.net.Received(d.t, o, d.Address()) }
func (d *devChaos) lost(o schemas.Owner) schemas.NanoTON { return d.net.Lost(d.t, o, d.Address()) }

func (d *devChaos) arrive(n schemas.NanoTON, memo string) {
	d.net.Give(d.t, d.Address(), n, memo)
}

func (d *devChaos) owners(n int) []schemas.Owner {
	all := make([]schemas.Owner, n)
	for i := range all {
		all[i] = ledgertest.Owner(0xbb00 + i)
		if i < chaosRefusers-1 {
			all[i] = d.net.Refuser(d.t, i)
		}
	}
	d.refuse = map[schemas.Owner]bool{}
	for _, o := range all[:chaosRefusers] {
		d.refuse[o] = true
	}
	return all
}

// Sign sets the bounce flag of transfers to those who refuse.
func (d *devChaos) Sign(b ton.Batch) (ton.Signed, error) {
	b.Transfers = slices.Clone(b.Transfers)
	for i, t := range b.Transfers {
		b.Transfers[i].Bounce = d.refuse[t.To]
	}
	return d.Treasury.Sign(b)
}

func (d *devChaos) drain(leave schemas.NanoTON) {
	d.next = d.next.Next()
	d.net.Drain(d.t, d.Treasury, d.next, leave)
}

func (d *devChaos) release(r *rand.Rand) {
	for _, s := range d.net.Servers {
		if n := s.Held(); n > 0 {
			_ = s.Release(r.IntN(n)) // the wallet may refuse it by now; that is for the payer to find out
			return
		}
	}
}

func (d *devChaos) misbehave(r *rand.Rand) {
	for _, s := range d.net.Servers {
		s.SetFaults(tonnet.Faults{})
	}
	if r == nil {
		d.refuse = nil
		return
	}
	var mu sync.Mutex // servers ask from their own goroutines
	fate := rand.New(rand.NewPCG(r.Uint64(), 0))
	submit := func([]byte) tonnet.Fate {
		mu.Lock()
		defer mu.Unlock()
		fates := []tonnet.Fate{tonnet.Deliver, tonnet.Lose, tonnet.DeliverButFail, tonnet.Fail, tonnet.Hold}
		return fates[fate.IntN(len(fates))]
	}
	bad := tonnet.Faults{Submit: submit}
	switch r.IntN(8) {
	case 0:
		bad.Down = true
	case 1:
		bad.Lag = uint32(1 + r.IntN(5))
	case 2:
		bad.Impostor = d.other
	case 3:
		bad.Answer = tonnet.FlipSignatures
	case 4:
		bad.Answer = tonnet.ShortenHistory
	}
	i := r.IntN(len(d.net.Servers))
	d.net.Servers[i].SetFaults(bad)
	d.net.Servers[1-i].SetFaults(tonnet.Faults{Submit: submit})
}

// TestExactlyOnceOnDevnet is the chaos on the devnet: what TestExactlyOnceUnderChaos does to the payer, and liteservers
// that lie, with real wallet code, real bounces and real proofs.
func TestExactlyOnceOnDevnet(t *testing.T) {
	t.Parallel()
	var total chaosCount
	seeds := chaosSeeds(t, 1)
	for seed := range uint64(seeds) {
		t.Run("seed "+strconv.FormatUint(seed, 10), func(t *testing.T) {
			c := newChaos(t, seed, newDevChaos(t), chaosShape{wild: 70, calm: 40, restores: true, owners: 20, drains: 12})
			c.run()
			if n := c.wrong(); n > 0 {
				t.Fatalf("%d accounts are wrong", n)
			}
			c.reconciled()
			t.Logf("%+v", c.count)
			total.add(c.count)
		})
	}
	t.Logf("%d seeds: %+v", seeds, total)
	if seeds >= enoughSeeds {
		total.complete(t)
	}
}

// enoughSeeds is how many it takes until everything that the chaos can produce on the devnet has happened.
const enoughSeeds = 10
