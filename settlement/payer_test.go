package settlement

import (
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

func TestPayoutsFromReceipts(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	alice := k.tenant("alice", 50*schemas.TON)
	var receipts []string
	var jobs []schemas.JobID
	for i := range 30 {
		job, r := k.do(work{tenant: alice, worker: "w1", owner: memOwner(0x100 + i%3), usage: schemas.Usage{Prompt: 1000}})
		jobs, receipts = append(jobs, job), append(receipts, r)
	}
	s := k.book()
	k.rejected()
	if s.Booked != 30 {
		t.Fatalf("booked %+v", s)
	}
	c := newMemChain(20 * schemas.TON)
	journal := &memJournal{}
	p, err := NewPayer(PayerConfig{Ledger: k.ledger, Treasury: c.pays(), Journal: journal})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := p.Tick(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		k.check()
		c.produce(5 * time.Second)
	}
	const earned = 10 * 90_000_000 // ten jobs of 0.1 TON less the network's tenth
	for i := range 3 {
		if got := c.received[memOwner(0x100+i)]; got != earned {
			t.Errorf("owner %d received %s", i, got)
		}
	}
	if got := k.balance(acctFees); got != 30*10_000_000 {
		t.Errorf("fees %s", got)
	}
	if c.sends != 1 {
		t.Errorf("%d sends for one batch", c.sends)
	}
	for i, job := range jobs {
		proof, err := k.ledger.Proof(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		root, err := proof.Verify(receipts[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := FindPayment(t.Context(), c.pays(), proof, root); err != nil {
			t.Fatal(err)
		}
		if _, err := proof.Verify(receipts[(i+1)%30]); schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("the proof covers another receipt: %v", err)
		}
	}
}
