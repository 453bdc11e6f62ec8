//go:build !worker

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// minAccuracy is the share of right answers below which the demo fails: the model answers 95 % of its held-out examples
// word for word, and a broken engine next to none.
const minAccuracy = 0.85

// resultLine is what the demo reads of a line of batch results.
type resultLine struct {
	CustomID string `json:"custom_id"`
	Response *struct {
		StatusCode int `json:"status_code"`
		Body       struct {
			Choices []struct {
				Message chatMessage `json:"message"`
			} `json:"choices"`
		} `json:"body"`
	} `json:"response"`
}

// answer is the text of the answer, and whether there is one.
func (r resultLine) answer() (string, bool) {
	if r.Response == nil || r.Response.StatusCode != 200 || len(r.Response.Body.Choices) == 0 {
		return "", false
	}
	return r.Response.Body.Choices[0].Message.Content, true
}

// readResults reads the result lines of a batch by custom_id.
func readResults(folder string) (map[string]resultLine, error) {
	b, err := batch.Open(folder)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	f, err := os.Create(filepath.Join(folder, "ordered.jsonl"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := b.WriteResults(f, batch.InputOrder, batch.All); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, err
	}
	results := map[string]resultLine{}
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var r resultLine
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("result line: %w", err)
		}
		results[r.CustomID] = r
	}
	return results, scanner.Err()
}

// check measures everything the demo claims and fills in the report.
func (d *demoRun) check(ctx context.Context) error {
	d.checkAnswers()
	if err := d.checkWire(); err != nil {
		return err
	}
	if err := d.checkReceipts(ctx); err != nil {
		return err
	}
	d.checkKilled()
	if err := d.checkChain(ctx); err != nil {
		return err
	}
	return d.checkBooks(ctx)
}

// checkAnswers compares every answer with the expected one.
func (d *demoRun) checkAnswers() {
	r := &d.report
	asked, right := map[string]int{}, map[string]int{}
	for _, t := range d.tenants {
		for _, q := range t.questions {
			r.Lines.Total++
			asked[q.Task]++
			answer, ok := t.results[q.ID].answer()
			if !ok {
				continue
			}
			r.Lines.Answered++
			if q.right(answer) {
				r.Lines.Correct++
				right[q.Task]++
			}
		}
	}
	for task, n := range asked {
		r.Accuracy[task] = float64(right[task]) / float64(n)
	}
	share := float64(r.Lines.Correct) / float64(max(r.Lines.Total, 1))
	r.check("every line answered", r.Lines.Answered == r.Lines.Total, "%d of %d", r.Lines.Answered, r.Lines.Total)
	r.check("answers are right", share >= minAccuracy, "%.1f %% word for word, at least %.0f %% expected", share*100, minAccuracy*100)
}

// checkWire searches what was stored, and shows first that the search would find something.
func (d *demoRun) checkWire() error {
	control := newWireScan()
	control.needles, control.longest = d.scan.needles, d.scan.longest
	for _, t := range d.tenants {
		for _, file := range []string{t.folder + ".jsonl", filepath.Join(t.folder, "ordered.jsonl")} {
			if err := control.scanFile(file); err != nil {
				return err
			}
		}
	}
	wire, _ := d.scan.result()
	if err := d.scan.scanFiles(d.net.data.sub("nats")); err != nil {
		return err
	}
	bytes, hits := d.scan.result()
	_, found := control.result()
	r := &d.report
	r.WireScan.Bytes, r.WireScan.Hits = bytes, len(hits)
	detail := fmt.Sprintf("no prompt or answer in %.1f MB on the wire and %.1f MB on disk", float64(wire)/1e6, float64(bytes-wire)/1e6)
	if len(hits) > 0 {
		detail = fmt.Sprintf("%d found, the first in %s", len(hits), hits[0].Where)
	}
	r.check("sealed on the wire and on disk", len(hits) == 0 && wire > 0 && bytes > wire, "%s", detail)
	r.check("the search finds plaintext where there is some", len(found) > 0, "%d texts found in the tenants' own files", len(found))
	return nil
}

// checkReceipts verifies every receipt and the grant behind it from the stored outcomes, as a stranger would, prices
// them again and compares with what was charged.
func (d *demoRun) checkReceipts(ctx context.Context) error {
	booked, err := d.bookedJobs(ctx)
	if err != nil {
		return err
	}
	r := &d.report
	charged := map[schemas.JobID]int{}
	var chargedSum, pricedSum schemas.NanoTON
	tenants := map[schemas.JobID]schemas.TenantID{}
	for _, t := range d.tenants {
		jobs, err := d.jobsOf(ctx, t)
		if err != nil {
			return err
		}
		for _, job := range jobs {
			tenants[job] = t.identity.ID()
		}
	}
	for _, m := range booked {
		job := schemas.JobID(m.Ref)
		charged[job]++
		chargedSum -= m.Amount
		r.Receipts.Total++
		grant, cost, err := d.verifyReceipt(ctx, tenants[job], job)
		if err != nil {
			r.check("receipt "+m.Ref, false, "%v", err)
			continue
		}
		r.Receipts.Verified++
		r.Executions.Runs += grant.Attempt
		pricedSum += cost
	}
	r.Executions.Jobs = d.lines()
	r.Executions.Charged = len(booked)
	once := len(charged) == len(booked) && len(booked) == d.lines()
	r.check("receipts and grants verify", r.Receipts.Verified == r.Receipts.Total && r.Receipts.Total == d.lines(), "%d of %d, by the broker's attested key", r.Receipts.Verified, d.lines())
	r.check("each job is charged once", once, "%d jobs, %d runs, %d charges", r.Executions.Jobs, r.Executions.Runs, r.Executions.Charged)
	r.check("charges are what the receipts say", chargedSum == pricedSum, "%s charged, %s by the receipts", chargedSum, pricedSum)
	return nil
}

// jobsOf lists the jobs that a tenant was charged for.
func (d *demoRun) jobsOf(ctx context.Context, t *demoTenant) ([]schemas.JobID, error) {
	page, err := d.net.money.ledger.Movements(ctx, settlement.TenantAccount(t.identity.ID()), 0, settlement.MaxMovements)
	if err != nil {
		return nil, err
	}
	var jobs []schemas.JobID
	for _, m := range page {
		if m.Kind == "job" {
			jobs = append(jobs, schemas.JobID(m.Ref))
		}
	}
	return jobs, nil
}

// verifyReceipt verifies the signed statements of one job and prices its usage.
func (d *demoRun) verifyReceipt(ctx context.Context, tenant schemas.TenantID, job schemas.JobID) (schemas.Grant, schemas.NanoTON, error) {
	o, err := d.net.bus.Outcome(ctx, tenant, job)
	if err != nil {
		return schemas.Grant{}, 0, err
	}
	var stated schemas.Grant
	if err := unverified(o.Grant, &stated); err != nil {
		return schemas.Grant{}, 0, err
	}
	key, err := d.net.money.ledger.BrokerKey(ctx, stated.Broker)
	if err != nil {
		return schemas.Grant{}, 0, err
	}
	grant, err := enclave.VerifyGrant(o.Grant, key)
	if err != nil {
		return schemas.Grant{}, 0, err
	}
	receipt, err := enclave.VerifyReceipt(o.Receipt, grant.WorkerKey)
	if err != nil {
		return schemas.Grant{}, 0, err
	}
	switch {
	case grant.Job != job || receipt.Job != job:
		return grant, 0, schemas.FieldError("job", "is another one")
	case receipt.Grant != schemas.HashOf([]byte(o.Grant)):
		return grant, 0, schemas.FieldError("grant", "is not the one the receipt names")
	case receipt.Result != schemas.HashOf(o.Body):
		return grant, 0, schemas.FieldError("result", "is not the one the receipt names")
	}
	catalogue, err := d.net.money.ledger.Catalogue(ctx, grant.Catalogue)
	if err != nil {
		return grant, 0, err
	}
	charge, err := catalogue.Cost(grant.Model, receipt.Usage, grant.Multiplier)
	return grant, charge.Total, err
}

// checkKilled shows that the worker was really killed, and that the other one went on.
func (d *demoRun) checkKilled() {
	w := d.workers[0]
	state := "still runs"
	killed := false
	select {
	case <-w.done:
		state = w.cmd.ProcessState.String()
		killed = !w.cmd.ProcessState.Exited() // ended by a signal, not by itself
	default:
	}
	d.report.check("a worker was killed in the middle", killed, "%s: %s", w.name, state)
}

// checkChain compares what the ledger says was paid with the balances that the chain proves.
func (d *demoRun) checkChain(ctx context.Context) error {
	r := &d.report
	ledger := d.net.money.ledger
	batches, err := ledger.PayoutBatches(ctx, 0, 1000)
	if err != nil {
		return err
	}
	paid := map[schemas.Owner]schemas.NanoTON{}
	for _, b := range batches {
		items, err := ledger.PayoutItems(ctx, b.Batch)
		if err != nil {
			return err
		}
		for _, item := range items {
			if item.State == "paid" {
				paid[item.To] += item.Amount
				r.Payouts.Transfers++
			}
		}
	}
	for i, owner := range d.owners {
		received, balance, err := d.received(ctx, owner)
		if err != nil {
			return err
		}
		if received != paid[owner] {
			r.Payouts.Mismatches++
		}
		r.Payouts.NanoTON += int64(paid[owner])
		r.check(fmt.Sprintf("owner of worker-%d is paid on chain", i+1), received == paid[owner] && received > 0,
			"%s received, %s in the ledger; balance %s", received, paid[owner], balance)
	}
	return nil
}

// received adds up what an owner's account got from the treasury, from its proven history: the balance alone would not
// do, because the chain takes a nanoTON of rent now and then.
func (d *demoRun) received(ctx context.Context, owner schemas.Owner) (sum, balance schemas.NanoTON, err error) {
	account, err := d.net.money.chain.Account(owner)
	if err != nil {
		return 0, 0, err
	}
	var cursor ton.Cursor
	for {
		page, err := account.History(ctx, cursor, historyPage)
		if err != nil {
			return 0, 0, err
		}
		for _, event := range page.Events {
			if in, ok := event.(ton.Deposit); ok && in.From == d.net.money.treasury.Address() {
				sum += in.Amount
			}
		}
		if cursor = page.Next; page.Complete {
			break
		}
	}
	state, err := account.State(ctx)
	return sum, state.Balance, err
}

// historyPage is how many transactions are read at once.
const historyPage = 256

// checkBooks has the ledger check itself and compares it with chain and streams.
func (d *demoRun) checkBooks(ctx context.Context) error {
	r := &d.report
	sum, err := d.net.money.ledger.Sum(ctx)
	if err != nil {
		return err
	}
	r.check("the ledger's postings sum to zero", sum == 0, "%s", sum)
	books, err := settlement.Reconcile(ctx, d.net.reconcile())
	if err != nil {
		return err
	}
	detail := fmt.Sprintf("%d receipts, %d payouts, %d deposits", books.Receipts, books.Payouts, books.Deposits)
	if len(books.Differences) > 0 {
		first := books.Differences[0]
		detail = fmt.Sprintf("%d differences, the first: %s %s: ledger %q, truth %q", len(books.Differences), first.Kind, first.Subject, first.Ledger, first.Truth)
	}
	r.check("ledger, streams and chain agree", len(books.Differences) == 0, "%s", detail)
	for _, t := range d.tenants {
		b, err := d.net.money.ledger.Balance(ctx, t.identity.ID())
		if err != nil {
			return err
		}
		r.tenants = append(r.tenants, tenantBill{t.name, len(t.questions), b.Charged, b.Balance + b.Stake})
	}
	return nil
}
