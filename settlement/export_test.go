package settlement

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"syscall"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// Names for tests outside the package.
const (
	BeforeCommit = beforeCommit
	AfterCommit  = afterCommit
	AcctOperator = acctOperator
	AcctDeposits = acctDeposits
	AcctTreasury = acctTreasury
	AcctSuspense = acctSuspense
	ArrivalGas   = arrivalGas
)

// SetFault makes writes fail: fault is asked before and after each commit.
func (l *Ledger) SetFault(fault func(where string) error) { l.fault = fault }

// Tree computes a root, and the path of one leaf, as statements do.
func Tree(leaves []schemas.Hash, want uint64) (root schemas.Hash, path []schemas.Hash) {
	t := tree{wanted: true, want: want}
	for _, l := range leaves {
		t.add(l)
	}
	root = t.root()
	return root, t.path
}

// RootOf climbs a path as proofs do.
var RootOf = rootOf

// Node hashes two subtrees.
var Node = node

// Booker books receipts like a sample without verifying anything: book(from, n) books n fresh ones.
func Booker(l *Ledger, sample schemas.Outcome) (func(ctx context.Context, from, n int) error, error) {
	g, _, err := enclave.ReadGrant(sample.Grant)
	if err != nil {
		return nil, err
	}
	r, err := enclave.VerifyReceipt(sample.Receipt, g.WorkerKey)
	if err != nil {
		return nil, err
	}
	charge := schemas.Charge{Total: 100, Worker: 90, Fee: 10}
	return func(ctx context.Context, from, n int) error {
		group := make([]verdict, n)
		for i := range group {
			seq := uint64(from+i) + 1
			sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, seq))
			c := &claim{grant: g, receipt: r, charge: charge, hash: sum, job: sum[:16]}
			c.grant.Owner = schemas.Owner(fmt.Sprintf("0:%064x", seq%500))
			c.receipt.Seq, c.receipt.Job = seq, schemas.JobIDFrom([16]byte(sum[:16]))
			group[i] = verdict{seq: seq, outcome: schemas.Outcome{Job: c.receipt.Job}, claim: c}
		}
		_, err := l.book(ctx, group)
		return err
	}, nil
}

// CPU is the CPU time of this process.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ReceiptLeaf is the leaf of a receipt.
var ReceiptLeaf = receiptLeaf

// GrantBroker reads which broker a grant says it is from.
var GrantBroker = grantBroker

// Judge judges one message under a configuration and reports why it is rejected.
func Judge(ctx context.Context, cfg IntakeConfig, m Message) (Reason, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return "", err
	}
	v, err := cfg.judge().judge(ctx, m)
	return v.reason, err
}

// PostUnbalanced tries to post an entry that does not add up.
func (l *Ledger) PostUnbalanced(ctx context.Context) error {
	return l.write(ctx, func(t *tx) error {
		_, err := t.post(entryFund, "unbalanced", 0, posting{1, 5}, posting{2, -4})
		return err
	})
}

// Pragma reads a setting of SQLite on the connection that writes and on one that reads.
func Pragma(ctx context.Context, l *Ledger, name string) (values [2]string) {
	for i, db := range []*sql.DB{l.rw, l.ro} {
		if err := db.QueryRowContext(ctx, "PRAGMA "+name).Scan(&values[i]); err != nil {
			values[i] = err.Error()
		}
	}
	return values
}
