package settlement

import (
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
