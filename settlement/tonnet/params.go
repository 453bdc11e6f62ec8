package tonnet

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// GlobalID is the network's global id, in its blocks and in config param 19. Mainnet is -239, testnet -3.
const GlobalID = -1024

// Numbers of the config params that the network needs by name.
const (
	paramGlobalID   = 19
	paramCatchain   = 28
	paramValidators = 34
)

// configAddress is where mainnet's config contract lives, on the masterchain. Ours has no such contract.
var configAddress = bytes.Repeat([]byte{0x55}, 32)

// DevConfig is a blockchain config with mainnet's prices and limits: config address (0), global version (8), workchain 0
// (12), storage, gas and forward prices (18, 20, 21, 24, 25), catchain lifetimes (28), and our own global id (19). Each
// cell but those of 12 and 19 equals mainnet's. Without 12 the executor would send to any workchain.
func DevConfig() *cell.Cell {
	params := cell.NewDict(32)
	for id, c := range map[int64]*cell.Cell{
		0:  cell.BeginCell().MustStoreSlice(configAddress, 256).EndCell(),
		8:  fields(0xC4, 8, 13, 32, 0x1EE, 64), // version and capabilities
		12: workchains(),
		18: storagePrices(),
		19: fields(uint64(GlobalID&0xFFFFFFFF), 32),
		20: gasPrices(1_000_000, 655_360_000, 70_000_000, 2_500_000), // masterchain
		21: gasPrices(40_000, 26_214_400, 1_000_000, 10_000_000),
		24: forwardPrices(10_000_000, 655_360_000, 65_536_000_000), // masterchain
		25: forwardPrices(400_000, 26_214_400, 2_621_440_000),
		28: fields(0xC2, 8, 0, 7, 1, 1, 250, 32, 250, 32, 1000, 32, 23, 32),
	} {
		setRef(params, id, c)
	}
	return params.AsCell()
}

// workchains describes the basechain: version 2, basic, active, accepting messages, never split, zero state unknown, with
// mainnet's format and delays.
func workchains() *cell.Cell {
	descr := cell.BeginCell().
		MustStoreBuilder(fields(0xA7, 8, 0, 32, 0, 8, 0, 8, 0, 8, 7, 3, 0, 13).ToBuilder()). // since, splits, flags
		MustStoreSlice(make([]byte, 64), 512).                                               // hashes of the zero state
		MustStoreBuilder(fields(0, 32, 1, 4, 1<<32-1, 32, 0, 64).ToBuilder()).               // version, format
		MustStoreBuilder(fields(0, 4, 100, 32, 100, 32, 30, 32, 1000, 32, 4, 8).ToBuilder()) // delays of splits and merges
	d := cell.NewDict(32)
	set(d, basechain, descr.EndCell())
	return cell.BeginCell().MustStoreDict(d).EndCell()
}

// storagePrices are: valid since, then bit and cell of the basechain and of the masterchain, in nano per 65536 s and 65536.
func storagePrices() *cell.Cell {
	d := cell.NewDict(32)
	set(d, 0, fields(0xCC, 8, 0, 32, 1, 64, 500, 64, 1000, 64, 500_000, 64))
	return d.AsCell()
}

// gasPrices takes what the first 100 gas cost, the price of a unit in 65536ths of a nano, and the limits of special
// accounts and of a block. The limit of a transaction is 1,000,000, the credit of externals 10,000; an account is frozen
// at a debt of 0.1 TON and deleted at 1 TON.
func gasPrices(flat, price, special, block uint64) *cell.Cell {
	return fields(0xD1, 8, 100, 64, flat, 64, 0xDE, 8, price, 64, 1_000_000, 64, special, 64, 10_000, 64, block, 64,
		100_000_000, 64, 1_000_000_000, 64)
}

// forwardPrices takes the lump sum in nano, then bit and cell in 65536ths.
func forwardPrices(lump, bit, cl uint64) *cell.Cell {
	return fields(0xEA, 8, lump, 64, bit, 64, cl, 64, 98304, 32, 21845, 16, 21845, 16)
}

// fields makes a cell of (value, bits) pairs.
func fields(pairs ...uint64) *cell.Cell {
	b := cell.BeginCell()
	for i := 0; i < len(pairs); i += 2 {
		b.MustStoreUInt(pairs[i], uint(pairs[i+1]))
	}
	return b.EndCell()
}

// set stores a value in a dictionary of ours. It panics on values that cannot fit, which constants of this file do.
func set(d *cell.Dictionary, key int64, value *cell.Cell) {
	if err := d.SetIntKey(big.NewInt(key), value); err != nil {
		panic(fmt.Sprintf("tonnet: config param %d: %v", key, err))
	}
}

// setRef is set with the value in a cell of its own.
func setRef(d *cell.Dictionary, key int64, value *cell.Cell) {
	set(d, key, cell.BeginCell().MustStoreRef(value).EndCell())
}

// validatorWeight is the whole weight, as there is one validator.
const validatorWeight = 1 << 40

// withValidator replaces the validator set (param 34) by one with our only validator.
func withValidator(params *cell.Cell, key ed25519.PublicKey) (*cell.Cell, error) {
	v, err := tlb.ToCell(tlb.ValidatorAddr{PublicKey: tlb.SigPubKeyED25519{Key: key}, Weight: validatorWeight, ADNLAddr: make([]byte, 32)})
	if err != nil {
		return nil, fmt.Errorf("validator: %w", err)
	}
	list := cell.NewDict(16)
	set(list, 0, v)
	s, err := tlb.ToCell(tlb.ValidatorSetExt{UTimeUntil: 1<<32 - 1, Total: 1, Main: 1, TotalWeight: validatorWeight, List: list})
	if err != nil {
		return nil, fmt.Errorf("validator set: %w", err)
	}
	d := params.AsDict(32)
	setRef(d, paramValidators, s)
	return d.AsCell(), nil
}
