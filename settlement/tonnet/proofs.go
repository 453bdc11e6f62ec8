package tonnet

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// Places of references in cells, by the TL-B schemas of the block format.
const (
	blockInfo, blockUpdate, blockExtraRef = 0, 2, 3
	extraAccounts, extraCustom            = 2, 3
	stateAccounts, stateMasterExtra       = 1, 3
	masterShardHashes, masterConfig       = 0, 1
)

// prove makes a Merkle proof of root that contains the cells which visit loads from the root it is given.
func prove(root *cell.Cell, visit func(*cell.Cell) error) (*cell.Cell, error) {
	b := cell.NewMerkleProofBuilder(root)
	if err := visit(b.Root()); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	return b.CreateProof()
}

// load marks a cell as part of a proof and returns its references.
func load(c *cell.Cell) ([]*cell.Cell, error) {
	if _, err := c.BeginParse(); err != nil {
		return nil, err
	}
	refs := make([]*cell.Cell, c.RefsNum())
	for i := range refs {
		var err error
		if refs[i], err = c.PeekRef(i); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// loadPath marks the cells along a path of references and returns the last.
func loadPath(c *cell.Cell, path ...int) (*cell.Cell, error) {
	refs, err := load(c)
	if err != nil || len(path) == 0 {
		return c, err
	}
	if path[0] >= len(refs) {
		return nil, errors.New("no such reference")
	}
	return loadPath(refs[path[0]], path[1:]...)
}

// loadTree marks a cell and everything below it.
func loadTree(c *cell.Cell) error {
	refs, err := load(c)
	for i := 0; err == nil && i < len(refs); i++ {
		err = loadTree(refs[i])
	}
	return err
}

// loadHeader marks a block's header.
func loadHeader(blk *cell.Cell) error {
	info, err := loadPath(blk, blockInfo)
	if err != nil {
		return err
	}
	return loadTree(info)
}

// proveState proves which state follows a block: its header, and the update with the two states' hashes.
func proveState(blk *cell.Cell) (*cell.Cell, error) {
	return prove(blk, func(root *cell.Cell) error {
		if err := loadHeader(root); err != nil {
			return err
		}
		_, err := loadPath(root, blockUpdate)
		return err
	})
}

// proveShards proves that a masterchain block registers its shard block.
func proveShards(blk, state *cell.Cell) ([]*cell.Cell, error) {
	bp, err := proveState(blk)
	if err != nil {
		return nil, err
	}
	sp, err := prove(state, func(root *cell.Cell) error {
		hashes, err := loadPath(root, stateMasterExtra, masterShardHashes)
		if err != nil {
			return err
		}
		return loadTree(hashes)
	})
	return []*cell.Cell{bp, sp}, err
}

// proveAccount proves the state of an account, or that there is none. The account's cell itself is not part of the proof;
// it is nil for accounts that do not exist.
func proveAccount(blk, state *cell.Cell, id []byte) (proof []*cell.Cell, account *cell.Cell, err error) {
	bp, err := proveState(blk)
	if err != nil {
		return nil, nil, err
	}
	sp, err := prove(state, func(root *cell.Cell) error {
		st, err := parseState(root)
		if err != nil {
			return err
		}
		v, _, err := st.Accounts.ShardAccounts.LoadValueExtra(accountID(id))
		if errors.Is(err, cell.ErrNoSuchKeyInDict) {
			return nil
		}
		if err == nil {
			account, err = v.PeekRefCell()
		}
		return err
	})
	if account != nil {
		account = account.WithoutTrace()
	}
	return []*cell.Cell{bp, sp}, account, err
}

// proveConfig proves the whole blockchain config as of a masterchain block.
func proveConfig(blk, state *cell.Cell) (blockProof, configProof *cell.Cell, err error) {
	if blockProof, err = proveState(blk); err != nil {
		return nil, nil, err
	}
	configProof, err = prove(state, func(root *cell.Cell) error {
		config, err := loadPath(root, stateMasterExtra, masterConfig)
		if err != nil {
			return err
		}
		return loadTree(config)
	})
	return blockProof, configProof, err
}

// proveTransactions proves a block's transactions: one by account and logical time, or all of them.
func proveTransactions(blk *cell.Cell, account []byte, lt uint64) (*cell.Cell, error) {
	return prove(blk, func(root *cell.Cell) error {
		if err := loadHeader(root); err != nil {
			return err
		}
		if account == nil {
			accounts, err := loadPath(root, blockExtraRef, extraAccounts)
			if err != nil {
				return err
			}
			return loadTree(accounts)
		}
		_, err := findTransaction(root, account, lt)
		return err
	})
}

// accountBlocks parses the part of a block that holds its transactions.
func accountBlocks(blk *cell.Cell) (*tlb.ShardAccountBlocks, error) {
	c, err := loadPath(blk, blockExtraRef, extraAccounts)
	if err != nil {
		return nil, err
	}
	s, err := c.BeginParse()
	if err != nil {
		return nil, err
	}
	var out tlb.ShardAccountBlocks
	if err = tlb.LoadFromCellAsProof(&out, s); err != nil {
		return nil, err
	}
	return &out, nil
}

// findTransaction returns the cell of one transaction of a block, nil when there is none.
func findTransaction(blk *cell.Cell, account []byte, lt uint64) (*cell.Cell, error) {
	accounts, err := accountBlocks(blk)
	if err != nil {
		return nil, err
	}
	v, err := accounts.Accounts.LoadValue(accountID(account))
	if err != nil {
		return nil, absent(err)
	}
	var ab tlb.AccountBlock
	if err = tlb.LoadFromCellAsProof(&ab, v); err != nil {
		return nil, err
	}
	tx, err := ab.Transactions.LoadValue(fields(lt, 64))
	if err != nil {
		return nil, absent(err)
	}
	return tx.PeekRefCell()
}

// absent drops the error that means a key is not in a dictionary.
func absent(err error) error {
	if errors.Is(err, cell.ErrNoSuchKeyInDict) {
		return nil
	}
	return err
}

// transaction finds a transaction of an account by its logical time, and its block.
func (a *archive) transaction(key accountKey, lt uint64) (*cell.Cell, *tonapi.BlockIDExt, error) {
	seqno, ok := a.at(lt)
	if !ok {
		return nil, nil, errNoTransaction
	}
	b, err := a.block(seqno)
	if err != nil {
		return nil, nil, err
	}
	c, err := findTransaction(b.root(key.workchain), key.id[:], lt)
	if err == nil && c == nil {
		err = errNoTransaction
	}
	return c, b.id(key.workchain), err
}

// errNoTransaction says that an account has no transaction at a logical time.
var errNoTransaction = schemas.Errorf(schemas.KindNotFound, "tonnet: no such transaction")

// proveForward links a masterchain block to a later one: the validators named in the config of the first signed the
// second.
func (n *Net) proveForward(from, to *block) (any, error) {
	dest, err := prove(to.master, loadHeader)
	if err != nil {
		return nil, err
	}
	config, err := prove(from.master, func(root *cell.Cell) error {
		if err := loadHeader(root); err != nil {
			return err
		}
		custom, err := loadPath(root, blockExtraRef, extraCustom)
		if err != nil {
			return err
		}
		return loadValidators(custom)
	})
	if err != nil {
		return nil, err
	}
	signatures, err := n.sign(to.id(masterchain))
	if err != nil {
		return nil, err
	}
	return tonapi.BlockLinkForward{
		ToKeyBlock: true, From: from.id(masterchain), To: to.id(masterchain),
		DestProof: dest.ToBOC(), ConfigProof: config.ToBOC(), SignatureSet: signatures,
	}, nil
}

// loadValidators marks what a client needs to know the validators: params 28 and 34 of a key block's config.
func loadValidators(custom *cell.Cell) error {
	s, err := custom.BeginParse()
	if err != nil {
		return err
	}
	var extra tlb.McBlockExtra
	if err = tlb.LoadFromCellAsProof(&extra, s); err != nil {
		return err
	}
	for _, id := range []int64{paramCatchain, paramValidators} {
		v, err := extra.ConfigParams.Config.Params.LoadValueByIntKey(big.NewInt(id))
		if err != nil {
			return err
		}
		c, err := v.LoadRefCell()
		if err != nil {
			return err
		}
		if err = loadTree(c); err != nil {
			return err
		}
	}
	return nil
}

// proveBackward links a masterchain block to an earlier one, which is in the dictionary of earlier blocks of its state.
func proveBackward(from, to *block, state *cell.Cell) (any, error) {
	dest, err := prove(to.master, loadHeader)
	if err != nil {
		return nil, err
	}
	update, err := proveState(from.master)
	if err != nil {
		return nil, err
	}
	old, err := prove(state, func(root *cell.Cell) error {
		st, err := parseState(root)
		if err != nil {
			return err
		}
		var extra tlb.McStateExtra
		if err = tlb.Parse(&extra, st.McStateExtra); err != nil {
			return err
		}
		blocks, err := loadOldBlocks(extra.Info)
		if err != nil {
			return err
		}
		_, _, err = blocks.LoadValueExtraByIntKey(big.NewInt(int64(to.seqno)))
		return err
	})
	if err != nil {
		return nil, err
	}
	return tonapi.BlockLinkBackward{
		ToKeyBlock: true, From: from.id(masterchain), To: to.id(masterchain),
		DestProof: dest.ToBOC(), Proof: update.ToBOC(), StateProof: old.ToBOC(),
	}, nil
}
