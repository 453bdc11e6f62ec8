package tonnet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Codes of liteserver errors that clients act on.
const (
	codeNotReady      = 651  // a block or state that the server does not have (yet)
	codeTimeout       = 652  // waited in vain
	codeNotInDB       = -400 // history that the server no longer has
	codeInvalid       = 400
	codeNotAccepted   = 0
	codeNoContract    = -256
	codeInternal      = 500
	maxTransactions   = 16 // of one getTransactions, as real servers have it
	maxBlockListing   = 256
	serverVersion     = 0x101
	serverCapability  = 7
	wantProof         = 1 << 5
	wantReverse       = 1 << 6
	startAfter        = 1 << 7
	lookupBySeqno     = 1
	lookupByLT        = 2
	lookupByTime      = 4
	proofTargetIsSet  = 1
	transactionFields = 7 // account, lt and hash
)

// refuse makes a liteserver error.
func refuse(code int32, format string, args ...any) error {
	return tonapi.LSError{Code: code, Text: fmt.Sprintf(format, args...)}
}

// view is the chain up to one block, as a server answers from it. Net.mu is held as long as it lives.
type view struct {
	*Net
	head uint32
}

// answer answers one query, as a value of package ton or as an error.
func (v view) answer(q tl.Serializable) (tl.Serializable, error) {
	switch q := q.(type) {
	case tonapi.GetMasterchainInf:
		last := v.chain.entry(v.head)
		hash, err := v.stateHash(v.head)
		return tonapi.MasterchainInfo{Last: last.id(masterchain), StateRootHash: hash, Init: zeroState()}, err
	case tonapi.GetMasterchainInfoExt:
		last := v.chain.entry(v.head)
		hash, err := v.stateHash(v.head)
		return tonapi.MasterchainInfoExt{
			Version: serverVersion, Capabilities: serverCapability, Last: last.id(masterchain),
			LastUTime: last.utime, Now: v.now(), StateRootHash: hash, Init: zeroState(),
		}, err
	case tonapi.GetTime:
		return tonapi.CurrentTime{Now: v.now()}, nil
	case tonapi.GetVersion:
		return tonapi.Version{Version: serverVersion, Capabilities: serverCapability, Now: v.now()}, nil
	case tonapi.GetAccountState:
		return v.accountState(q)
	case tonapi.GetTransactions:
		return v.transactions(q)
	case tonapi.GetOneTransaction:
		return v.oneTransaction(q)
	case tonapi.GetBlockData:
		return v.blockData(q)
	case tonapi.GetBlockHeader:
		return v.header(v.find(q.ID))
	case tonapi.LookupBlock:
		return v.lookup(q)
	case tonapi.GetAllShardsInfo:
		return v.shards(q)
	case tonapi.ListBlockTransactions:
		return v.listTransactions(q)
	case tonapi.GetConfigAll:
		return v.config(q.BlockID)
	case tonapi.GetConfigParams:
		return v.config(q.BlockID)
	case tonapi.GetBlockProof:
		return v.blockProof(q)
	case tonapi.GetLibraries:
		return tonapi.LibraryResult{}, nil
	case tonapi.RunSmcMethod:
		return v.runMethod(q)
	}
	return nil, refuse(codeInvalid, "unsupported query %T", q)
}

// now is the server's clock.
func (v view) now() uint32 { return uint32(v.cfg.Now().Unix()) }

// zeroState names the state before the first block.
func zeroState() *tonapi.ZeroStateIDExt {
	c := emptyState()
	h := fileHash(c.ToBOC())
	return &tonapi.ZeroStateIDExt{Workchain: masterchain, RootHash: c.Hash(), FileHash: h[:]}
}

// stateHash is the hash of the masterchain's state after a block.
func (v view) stateHash(seqno uint32) ([]byte, error) {
	b, err := v.chain.block(seqno)
	if err != nil {
		return nil, err
	}
	return stateHash(b.master)
}

// located is a block that a query names.
type located struct {
	*block
	workchain int32
}

// cell is the named block's cell.
func (l located) cell() *cell.Cell { return l.root(l.workchain) }

// blockID is the named block's id.
func (l located) blockID() *tonapi.BlockIDExt { return l.id(l.workchain) }

// find finds the block with an id.
func (v view) find(id *tonapi.BlockIDExt) (located, error) {
	seqno, ok := v.chain.byRoot[[32]byte(id.RootHash)]
	if !ok || seqno > v.head || !v.chain.entry(seqno).id(id.Workchain).Equals(id) {
		return located{}, refuse(codeNotReady, "block %d:%x:%d is not known", id.Workchain, uint64(id.Shard), id.SeqNo)
	}
	b, err := v.chain.block(seqno)
	return located{b, id.Workchain}, err
}

// state returns the states after a block.
func (v view) state(seqno uint32) (*world, error) {
	if w := v.chain.states[seqno]; w != nil {
		return w, nil
	}
	return nil, refuse(codeNotReady, "state of block %d is no longer kept", seqno)
}

// accountAt proves an account's state as of the block with the given id.
func (v view) accountAt(id *tonapi.BlockIDExt, acc tonapi.AccountID) (tonapi.AccountState, error) {
	b, err := v.find(id)
	if err != nil {
		return tonapi.AccountState{}, err
	}
	w, err := v.state(b.seqno)
	if err != nil {
		return tonapi.AccountState{}, err
	}
	out := tonapi.AccountState{ID: id, Shard: b.id(acc.Workchain)}
	if b.workchain == masterchain && acc.Workchain == basechain {
		if out.ShardProof, err = proveShards(b.master, w.master); err != nil {
			return out, err
		}
	}
	out.Proof, out.State, err = proveAccount(b.root(acc.Workchain), w.of(acc.Workchain), acc.ID)
	return out, err
}

// accountState answers getAccountState.
func (v view) accountState(q tonapi.GetAccountState) (tl.Serializable, error) {
	if wc := q.Account.Workchain; wc != basechain && wc != masterchain {
		return nil, refuse(codeInvalid, "no workchain %d", wc)
	}
	return v.accountAt(q.ID, q.Account)
}

// transactions answers getTransactions: up to maxTransactions from one backwards.
func (v view) transactions(q tonapi.GetTransactions) (tl.Serializable, error) {
	key := accountKey{workchain: q.AccID.Workchain, id: [32]byte(q.AccID.ID)}
	var out tonapi.TransactionList
	var cells []*cell.Cell
	lt, hash := uint64(q.LT), q.TxHash
	for len(cells) < min(int(q.Limit), maxTransactions) && lt > 0 {
		c, id, err := v.chain.transaction(key, lt)
		if errors.Is(err, errNoTransaction) || err == nil && (id.SeqNo > v.head || !bytes.Equal(c.Hash(), hash)) {
			return nil, refuse(codeNotInDB, "cannot compute block with specified transaction: lt not in db")
		}
		if err != nil {
			return nil, err
		}
		var tx tlb.Transaction
		if err = tlb.Parse(&tx, c); err != nil {
			return nil, err
		}
		cells, out.IDs = append(cells, c), append(out.IDs, id)
		lt, hash = tx.PrevTxLT, tx.PrevTxHash
	}
	if len(cells) > 0 {
		out.Transactions = cell.ToBOCWithOptions(cells, cell.BOCSerializeOptions{})
	}
	return out, nil
}

// oneTransaction answers getOneTransaction.
func (v view) oneTransaction(q tonapi.GetOneTransaction) (tl.Serializable, error) {
	b, err := v.find(q.ID)
	if err != nil {
		return nil, err
	}
	out := tonapi.TransactionInfo{ID: q.ID}
	c, err := findTransaction(b.cell(), q.AccID.ID, uint64(q.LT))
	if err != nil || c == nil {
		return out, err
	}
	proof, err := proveTransactions(b.cell(), q.AccID.ID, uint64(q.LT))
	if err != nil {
		return nil, err
	}
	out.Transaction, out.Proof = c.ToBOC(), proof.ToBOC()
	return out, nil
}

// blockData answers getBlock with the very bytes that the file hash is of.
func (v view) blockData(q tonapi.GetBlockData) (tl.Serializable, error) {
	b, err := v.find(q.ID)
	if err != nil {
		return nil, err
	}
	data, err := v.chain.bytes(b.seqno, b.workchain)
	return tonapi.BlockData{ID: q.ID, Payload: data}, err
}

// header answers with a block's header.
func (v view) header(b located, err error) (tl.Serializable, error) {
	if err != nil {
		return nil, err
	}
	// Clients parse the block as a whole, so what follows the header is there too, without its contents.
	proof, err := prove(b.cell(), func(root *cell.Cell) error {
		if err := loadHeader(root); err != nil {
			return err
		}
		extra, err := loadPath(root, blockExtraRef)
		if err != nil || b.workchain != masterchain {
			return err
		}
		custom, err := loadPath(extra, extraCustom)
		if err != nil {
			return err
		}
		return loadTree(custom)
	})
	if err != nil {
		return nil, err
	}
	return tonapi.BlockHeader{ID: b.blockID(), HeaderProof: proof.ToBOC()}, nil
}

// lookup answers lookupBlock: by seqno, by a logical time in the block, or the last block up to a time.
func (v view) lookup(q tonapi.LookupBlock) (tl.Serializable, error) {
	seqno, ok := uint32(q.ID.Seqno), true
	switch {
	case q.Mode&lookupBySeqno != 0:
	case q.Mode&lookupByLT != 0:
		seqno, ok = v.chain.at(q.LT)
	case q.Mode&lookupByTime != 0:
		seqno = uint32(sort.Search(len(v.chain.index), func(i int) bool { return v.chain.index[i].utime > q.UTime }))
	}
	wc := q.ID.Workchain
	if !ok || seqno == 0 || seqno > v.head || wc != masterchain && wc != basechain {
		return nil, refuse(codeNotReady, "block is not known")
	}
	b, err := v.chain.block(seqno)
	return v.header(located{b, wc}, err)
}

// shards answers getAllShardsInfo.
func (v view) shards(q tonapi.GetAllShardsInfo) (tl.Serializable, error) {
	b, err := v.find(q.ID)
	if err != nil {
		return nil, err
	}
	w, err := v.state(b.seqno)
	if err != nil {
		return nil, err
	}
	proof, err := proveShards(b.master, w.master)
	if err != nil {
		return nil, err
	}
	hashes, err := loadPath(w.master, stateMasterExtra, masterShardHashes)
	if err != nil {
		return nil, err
	}
	return tonapi.AllShardsInfo{ID: q.ID, Proof: proof, Data: cell.BeginCell().MustStoreMaybeRef(hashes).EndCell()}, nil
}

// listTransactions answers listBlockTransactions, in the order of accounts and logical times or backwards.
func (v view) listTransactions(q tonapi.ListBlockTransactions) (tl.Serializable, error) {
	b, err := v.find(q.ID)
	if err != nil {
		return nil, err
	}
	all, err := blockTransactions(b.cell())
	if err != nil {
		return nil, err
	}
	if q.Mode&wantReverse != 0 {
		slices.Reverse(all)
	}
	if q.Mode&startAfter != 0 && q.After != nil {
		for i, t := range all {
			if bytes.Equal(t.account.id[:], q.After.Account) && t.lt == q.After.LT {
				all = all[i+1:]
				break
			}
		}
	}
	out := tonapi.BlockTransactions{ID: q.ID, ReqCount: int32(q.Count)}
	for _, t := range all[:min(len(all), int(q.Count), maxBlockListing)] {
		out.TransactionIds = append(out.TransactionIds, tonapi.TransactionID{Flags: transactionFields, Account: t.account.id[:], LT: t.lt, Hash: t.cell.Hash()})
	}
	out.Incomplete = len(out.TransactionIds) < len(all)
	if q.Mode&wantProof != 0 {
		out.Proof, err = proveTransactions(b.cell(), nil, 0)
	}
	return out, err
}

// blockTransactions lists a block's transactions in the order of its dictionaries.
func blockTransactions(blk *cell.Cell) ([]transaction, error) {
	accounts, err := accountBlocks(blk)
	if err != nil {
		return nil, err
	}
	items, err := accounts.Accounts.RangeExtra(false, false)
	if err != nil {
		return nil, err
	}
	var out []transaction
	for _, item := range items {
		var ab tlb.AccountBlock
		if err = tlb.LoadFromCell(&ab, item.Value); err != nil {
			return nil, err
		}
		txs, err := ab.Transactions.RangeExtra(false, false)
		if err != nil {
			return nil, err
		}
		for _, tx := range txs {
			lt, err := tx.Key.MustBeginParse().LoadUInt(64)
			if err != nil {
				return nil, err
			}
			c, err := tx.Value.LoadRefCell()
			if err != nil {
				return nil, err
			}
			out = append(out, transaction{account: accountKey{id: [32]byte(ab.Addr)}, lt: lt, cell: c})
		}
	}
	return out, nil
}

// config answers getConfigAll and getConfigParams, both with the whole config.
func (v view) config(id *tonapi.BlockIDExt) (tl.Serializable, error) {
	b, err := v.find(id)
	if err != nil {
		return nil, err
	}
	w, err := v.state(b.seqno)
	if err != nil {
		return nil, err
	}
	bp, cp, err := proveConfig(b.master, w.master)
	if err != nil {
		return nil, err
	}
	return tonapi.ConfigAll{ID: id, StateProof: bp.ToBOC(), ConfigProof: cp.ToBOC()}, nil
}

// blockProof answers getBlockProof with one step.
func (v view) blockProof(q tonapi.GetBlockProof) (tl.Serializable, error) {
	from, err := v.find(q.KnownBlock)
	if err != nil {
		return nil, err
	}
	target := v.chain.entry(v.head).id(masterchain)
	if q.Mode&proofTargetIsSet != 0 {
		target = q.TargetBlock
	}
	to, err := v.find(target)
	if err != nil {
		return nil, err
	}
	out := tonapi.PartialBlockProof{Complete: true, From: from.blockID(), To: to.blockID()}
	var step any
	switch {
	case to.seqno == from.seqno:
		return out, nil
	case to.seqno > from.seqno:
		step, err = v.proveForward(from.block, to.block)
	default:
		w, stateErr := v.state(from.seqno)
		if stateErr != nil {
			return nil, stateErr
		}
		step, err = proveBackward(from.block, to.block, w.master)
	}
	out.Steps = []any{step}
	return out, err
}
