package settlement

import (
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/cocoon-network/cocoon/schemas"
)

// The network's own accounts. A positive balance is money we owe or have earned; the wallets hold the money itself, so
// their balances are negative.
const (
	acctFees        = "fees"            // the network's share of charges
	acctSuspense    = "suspense"        // deposits that name no tenant
	acctInflight    = "inflight"        // payouts signed and not yet judged
	acctWithdrawals = "withdrawals"     // refunds and fees that wait for a payout batch
	acctGas         = "gas"             // what the chain took
	acctOperator    = "operator"        // money the operator put in or took out by hand
	acctUnexplained = "unexplained"     // payments by a treasury that nobody can account for
	acctTreasury    = "wallet:treasury" // money in the payout wallet
	acctDeposits    = "wallet:deposits" // money in the deposit wallet
)

// Prefixes of the accounts that exist once per tenant or owner.
const (
	tenantPrefix = "tenant:"
	stakePrefix  = "stake:"
	ownerPrefix  = "owner:"
)

// The kinds of entries.
const (
	entryJob      = "job"       // tenant → owner, fees
	entryDeposit  = "deposit"   // deposit or treasury wallet → tenant, stake or suspense
	entryAssign   = "assign"    // suspense → tenant or operator
	entryFund     = "fund"      // operator → tenant
	entryStake    = "stake"     // between a tenant's balance and its stake
	entryRequest  = "request"   // some account → withdrawals
	entryCancel   = "cancel"    // withdrawals → where it came from
	entryPayout   = "payout"    // owners, withdrawals → inflight: a batch is signed
	entryPaid     = "paid"      // inflight → treasury wallet: the chain shows it
	entryReturned = "returned"  // inflight → owners, withdrawals: the chain shows that it was not paid
	entryBounce   = "bounce"    // treasury wallet → owner: it came back
	entryTopUp    = "top_up"    // treasury wallet → operator or deposit wallet: the network's own money for payouts
	entryGas      = "gas"       // gas → treasury wallet
	entryAdopted  = "adopted"   // owners, unexplained → treasury wallet: a stranger's payment was accepted
	entryCarried  = "recovered" // some account → withdrawals, for batches read back from the journal
)

// posting is one line of an entry: a credit is positive.
type posting struct {
	account int64
	amount  schemas.NanoTON
}

// nameCache remembers the ids of named rows, which never change once they are committed.
type nameCache struct {
	// mu guards ids; readers use the cache too.
	mu  sync.Mutex
	ids map[string]int64
}

// maxCachedNames bounds the cache; beyond it, it starts over.
const maxCachedNames = 1 << 18

// get finds an id.
func (c *nameCache) get(name string) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.ids[name]
	return id, ok
}

// put remembers an id.
func (c *nameCache) put(name string, id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids == nil || len(c.ids) >= maxCachedNames {
		c.ids = map[string]int64{}
	}
	c.ids[name] = id
}

// forget drops everything: a transaction that may have made accounts was rolled back.
func (c *nameCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = nil
}

// account returns the id of the account with the given name and opens it if need be.
func (t *tx) account(name string) (int64, error) {
	id, found, err := t.findAccount(name)
	if err != nil || found {
		return id, err
	}
	if _, err := t.one([]any{&id}, "SELECT COALESCE(MAX(id), 0) + 1 FROM accounts"); err != nil {
		return 0, err
	}
	if _, err := t.exec("INSERT INTO accounts (id, name) VALUES (?, ?)", id, name); err != nil {
		return 0, err
	}
	if address, ok := strings.CutPrefix(name, ownerPrefix); ok {
		if _, err := t.exec("INSERT INTO owners (account, address) VALUES (?, ?)", id, address); err != nil {
			return 0, err
		}
	}
	t.l.names.put(name, id)
	return id, nil
}

// findAccount looks an account up without opening it.
func (t *tx) findAccount(name string) (id int64, found bool, err error) {
	if id, ok := t.l.names.get(name); ok {
		return id, true, nil
	}
	found, err = t.one([]any{&id}, "SELECT id FROM accounts WHERE name = ?", name)
	if found && t.deltas != nil { // only writers fill the cache: a reader may look at an older snapshot than a rollback
		t.l.names.put(name, id)
	}
	return id, found, err
}

// balance is what an account holds, including what this transaction has posted so far.
func (t *tx) balance(account int64) (schemas.NanoTON, error) {
	var n schemas.NanoTON
	found, err := t.one([]any{&n}, "SELECT balance FROM accounts WHERE id = ?", account)
	if err == nil && !found {
		err = corrupt("account %d does not exist", account)
	}
	return n + t.deltas[account], err
}

// named returns the id of a row in a table of names, workers or models, and adds it if need be.
func (t *tx) named(table, name string) (id int64, err error) {
	key := table + "/" + name
	if id, ok := t.l.names.get(key); ok {
		return id, nil
	}
	found, err := t.one([]any{&id}, "SELECT id FROM "+table+" WHERE name = ?", name)
	if err != nil {
		return 0, err
	}
	if !found {
		if _, err := t.one([]any{&id}, "SELECT COALESCE(MAX(id), 0) + 1 FROM "+table); err != nil {
			return 0, err
		}
		if _, err := t.exec("INSERT INTO "+table+" (id, name) VALUES (?, ?)", id, name); err != nil {
			return 0, err
		}
	}
	t.l.names.put(key, id)
	return id, nil
}

// entryID takes the next entry id. Writers exclude each other, so the ids are dense and grow with the commits.
func (t *tx) entryID() (int64, error) {
	if t.next == 0 {
		if _, err := t.one([]any{&t.next}, "SELECT COALESCE(MAX(id), 0) + 1 FROM entries"); err != nil {
			return 0, err
		}
	}
	t.next++
	return t.next - 1, nil
}

// posted reports whether an entry of this kind and ref exists.
func (t *tx) posted(kind, ref string) (bool, error) {
	var id int64
	return t.one([]any{&id}, "SELECT id FROM entries WHERE kind = ? AND ref = ?", kind, ref)
}

// post writes one entry. The lines must add up to zero; lines of one account are merged and empty ones left out. ref is
// the idempotency key: a second entry of the same kind and ref fails with KindConflict.
func (t *tx) post(kind, ref string, place uint64, lines ...posting) (int64, error) {
	id, err := t.entryID()
	if err != nil {
		return 0, err
	}
	if _, err := t.exec("INSERT INTO "+intoEntries+" VALUES (?, ?, ?, ?, ?)", id, kind, int64(place), t.now, ref); err != nil {
		return 0, err
	}
	rows, err := t.lines(nil, id, lines)
	if err != nil {
		return 0, err
	}
	return id, t.insert(intoPostings, 3, rows)
}

// lines checks the lines of an entry, adds them to what accounts gain and lose, and appends their rows.
func (t *tx) lines(rows []any, entry int64, lines []posting) ([]any, error) {
	var sum schemas.NanoTON
	slices.SortFunc(lines, func(a, b posting) int { return int(a.account - b.account) })
	for i := 0; i < len(lines); {
		p := lines[i]
		for i++; i < len(lines) && lines[i].account == p.account; i++ {
			p.amount += lines[i].amount
		}
		if p.amount == 0 {
			continue
		}
		sum += p.amount
		total, ok := addMoney(t.deltas[p.account], p.amount)
		if !ok {
			return nil, schemas.Errorf(schemas.KindInvalid, "amounts of one commit exceed 63 bits")
		}
		t.deltas[p.account] = total
		rows = append(rows, p.account, entry, int64(p.amount))
	}
	if sum != 0 {
		return nil, corrupt("an entry does not add up to zero: %d left over", sum)
	}
	return rows, nil
}

// addMoney adds and reports whether the sum fits.
func addMoney(a, b schemas.NanoTON) (schemas.NanoTON, bool) {
	if b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b {
		return 0, false
	}
	return a + b, true
}

// moveBalances spells an update of n accounts by rows of id, amount and time: it adds the amount to the balance and notes
// when that rises above zero.
func moveBalances(n int) string {
	return `UPDATE accounts SET since = CASE WHEN balance <= 0 AND balance + d.column2 > 0 THEN d.column3 ELSE since END,
	balance = balance + d.column2 FROM (VALUES (CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT))` +
		strings.Repeat(", (?, ?, ?)", n-1) + `) d WHERE accounts.id = d.column1`
}

// flush writes the balances that the transaction changed.
func (t *tx) flush() error {
	accounts := make([]int64, 0, len(t.deltas))
	for id := range t.deltas {
		accounts = append(accounts, id)
	}
	slices.Sort(accounts)
	rows := make([]any, 0, 3*len(accounts))
	for _, id := range accounts {
		rows = append(rows, id, int64(t.deltas[id]), t.now)
	}
	return t.inChunks(3, rows, moveBalances)
}
