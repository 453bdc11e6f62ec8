package ton

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// Account reads one address. It is safe for concurrent use.
type Account struct {
	chain *Chain
	owner schemas.Owner
	addr  *address.Address

	// mu guards marks.
	mu sync.Mutex
	// marks are places in the history above the last page, newest first, from which later pages start.
	marks []Cursor
}

// Address is the account's raw address.
func (a *Account) Address() schemas.Owner { return a.owner }

// State proves the account's balance as of the newest block.
func (a *Account) State(ctx context.Context) (State, error) {
	var st State
	err := a.chain.ask(ctx, func(ctx context.Context) error {
		b, err := a.chain.head(ctx)
		if err != nil {
			return err
		}
		st, err = a.stateAt(ctx, b)
		return err
	})
	return st, err
}

// stateAt proves the account's state as of a block, or that it has none.
//
// tonutils' own GetAccount takes every failure to find the address in the proof for absence, also when the place where
// it would be is cut out of the proof. A liteserver could hide an account that way, and with it payments that were made.
func (a *Account) stateAt(ctx context.Context, b block) (State, error) {
	var resp tl.Serializable
	q := tonapi.GetAccountState{ID: b.id, Account: tonapi.AccountID{Workchain: a.addr.Workchain(), ID: a.addr.Data()}}
	if err := a.chain.lite.QueryLiteserver(ctx, q, &resp); err != nil {
		return State{}, err
	}
	answer, ok := resp.(tonapi.AccountState)
	if !ok {
		return State{}, unexpected(resp)
	}
	shard, err := a.prove(b, answer)
	if err != nil || shard == nil {
		return State{At: b.BlockTime}, err
	}
	return readState(b, shard, answer.State)
}

// prove follows the proof from the masterchain block to the account. It returns nil when the account does not exist.
func (a *Account) prove(b block, answer tonapi.AccountState) (*tlb.ShardAccount, error) {
	root := b.id.RootHash
	if a.addr.Workchain() != masterchain {
		if err := tonapi.CheckShardInMasterProofForAccount(b.id, answer.ShardProof, answer.Shard, a.addr); err != nil {
			return nil, fmt.Errorf("%w: shard block: %w", ErrUnproven, err)
		}
		root = answer.Shard.RootHash
	}
	state, err := tonapi.CheckBlockShardStateProof(answer.Proof, root)
	if err != nil {
		return nil, fmt.Errorf("%w: shard state: %w", ErrUnproven, err)
	}
	accounts := state.Accounts.ShardAccounts
	if accounts == nil {
		return nil, fmt.Errorf("%w: no accounts in the proof", ErrUnproven)
	}
	v, _, err := accounts.LoadValueExtra(cell.BeginCell().MustStoreSlice(a.addr.Data(), 256).EndCell())
	if errors.Is(err, cell.ErrNoSuchKeyInDict) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: account: %w", ErrUnproven, err)
	}
	shard := new(tlb.ShardAccount)
	if err = tlb.LoadFromCell(shard, v); err != nil {
		return nil, fmt.Errorf("%w: account: %w", ErrUnproven, err)
	}
	return shard, nil
}

// readState reads an account's cell, which must be the one that was proven.
func readState(b block, shard *tlb.ShardAccount, state *cell.Cell) (State, error) {
	if state == nil || shard.Account.HashKey(0) != state.HashKey() {
		return State{}, fmt.Errorf("%w: account state", ErrUnproven)
	}
	var acc tlb.AccountState
	if err := tlb.Parse(&acc, state); err != nil {
		return State{}, fmt.Errorf("%w: account state: %w", ErrUnproven, err)
	}
	balance, err := toNano(acc.Balance.Nano())
	if err != nil {
		return State{}, err
	}
	return State{
		At:       b.BlockTime,
		Balance:  balance,
		Deployed: acc.Status == tlb.AccountStatusActive,
		Last:     Cursor{LT: shard.LastTransLT, Hash: Hash(shard.LastTransHash)},
	}, nil
}

// unexpected is the error for an answer of another type: the server's own error, or nonsense.
func unexpected(resp tl.Serializable) error {
	if said, ok := resp.(tonapi.LSError); ok {
		return said
	}
	return fmt.Errorf("%w: answer of type %T", ErrUnproven, resp)
}

// toNano turns an amount on chain into ours. Amounts that do not fit cannot occur on a real network.
func toNano(n *big.Int) (schemas.NanoTON, error) {
	if !n.IsInt64() || n.Sign() < 0 {
		return 0, schemas.Errorf(schemas.KindCorrupt, "ton: amount of %s nanoTON is not an amount", n)
	}
	return schemas.NanoTON(n.Int64()), nil
}
