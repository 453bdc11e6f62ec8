package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"

	"github.com/cocoon-network/cocoon/schemas"
)

// spending is what keys have spent: the journal played from its start.
type spending struct {
	total map[string]schemas.NanoTON
	// units has what was charged for a job that may be answered twice, or a batch that grows: each is counted once.
	units map[string]spent
}

func newSpending() *spending {
	return &spending{total: map[string]schemas.NanoTON{}, units: map[string]spent{}}
}

// spent is one record: an amount, or what a unit has come to cost by now.
type spent struct {
	Key    string          `json:"key"`
	Unit   string          `json:"unit,omitempty"`
	Amount schemas.NanoTON `json:"amount"`
}

// replay applies a record.
func (s *spending) replay(payload []byte) error {
	var e spent
	if err := json.Unmarshal(payload, &e); err != nil {
		return &schemas.Error{Kind: schemas.KindCorrupt, Field: "spent", Message: "has a record that does not parse", Err: err}
	}
	s.apply(e)
	return nil
}

// apply counts a record.
func (s *spending) apply(e spent) {
	if e.Unit == "" {
		s.total[e.Key] += e.Amount
		return
	}
	s.total[e.Key] += e.Amount - s.units[e.Unit].Amount
	s.units[e.Unit] = e
}

// records are the fewest records that say the same.
func (s *spending) records() (list []spent) {
	rest := maps.Clone(s.total)
	for _, e := range s.units {
		rest[e.Key] -= e.Amount
		list = append(list, e)
	}
	for key, amount := range rest {
		if amount != 0 {
			list = append(list, spent{Key: key, Amount: amount})
		}
	}
	return list
}

// reserve sets aside what a request may cost; release gives it back when the cost is known. It refuses what would
// go above the key's cap.
func (c *caller) reserve(amount schemas.NanoTON) (release func(), err error) {
	if c.keys == nil || c.key.Cap == 0 {
		return func() {}, nil
	}
	k := c.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	if left := c.key.Cap - k.spent.total[c.key.ID] - k.reserved[c.key.ID]; amount > left {
		return nil, &httpError{http.StatusTooManyRequests, "insufficient_quota", "budget_exceeded", &schemas.Error{
			Kind: schemas.KindCredit, Message: fmt.Sprintf("the key has %s left to spend and the request may cost %s", max(left, 0), amount),
		}}
	}
	k.reserved[c.key.ID] += amount
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.reserved[c.key.ID] -= amount
	}), nil
}

// holdUpTo sets aside what a batch may cost, as far as the key's cap allows, and says how much that is; 0 for a key
// without a cap, which needs no bound.
func (c *caller) holdUpTo(batch string, worst schemas.NanoTON) schemas.NanoTON {
	if c.keys == nil || c.key.Cap == 0 {
		return 0
	}
	k := c.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	left := c.key.Cap - k.spent.total[c.key.ID] - k.reserved[c.key.ID] + k.holds[batch]
	amount := max(1, min(worst, left)) // a budget of 0 would be none
	k.setHold(c.key.ID, batch, amount)
	return amount
}

// hold sets what a batch may still cost; charge lowers it by what it counts, and 0 ends it.
func (k *Keys) hold(key, batch string, amount schemas.NanoTON) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setHold(key, batch, amount)
}

// counted is what was counted for a batch by now.
func (k *Keys) counted(batch string) schemas.NanoTON {
	if k == nil {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.spent.units[batch].Amount
}

// setHold is hold for callers with the lock.
func (k *Keys) setHold(key, batch string, amount schemas.NanoTON) {
	k.reserved[key] += amount - k.holds[batch]
	if k.holds[batch] = amount; amount == 0 {
		delete(k.holds, batch)
	}
}

// charge counts what a request, or a unit by now, has cost. What is lost with the machine (not with the process) is
// spending that the cap does not see; receipts and ledger do.
func (k *Keys) charge(e spent) error {
	if k == nil || e.Key == "" || e.Amount == 0 {
		return nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode spending: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.spent.units[e.Unit].Amount
	if e.Unit != "" && before == e.Amount {
		return nil
	}
	if err := k.journal.Write(b); err != nil {
		return err
	}
	k.spent.apply(e)
	if held := k.holds[e.Unit]; held > 0 {
		k.setHold(e.Key, e.Unit, max(0, held-(e.Amount-before)))
	}
	return nil
}
