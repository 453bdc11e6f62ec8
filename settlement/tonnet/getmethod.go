package tonnet

import (
	"math/big"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"github.com/xssnick/tonutils-go/tvm/tuple"
	"github.com/xssnick/tonutils-go/tvm/vm"
)

// getMethodGas is the gas limit of a get method, as on real liteservers.
const getMethodGas = 1_000_000

// Bits of runSmcMethod's mode.
const (
	methodProof      = 1 << 0
	methodStateProof = 1 << 1
	methodResult     = 1 << 2
	methodModes      = methodProof | methodStateProof | methodResult
)

// runMethod answers runSmcMethod.
func (v view) runMethod(q tonapi.RunSmcMethod) (tl.Serializable, error) {
	acc, err := v.accountAt(q.ID, q.Account)
	if err != nil {
		return nil, err
	}
	var st tlb.AccountState
	if acc.State != nil {
		if err = tlb.Parse(&st, acc.State); err != nil {
			return nil, err
		}
	}
	if st.Status != tlb.AccountStatusActive {
		return nil, refuse(codeNoContract, "contract is not initialized")
	}
	stack, err := methodStack(q)
	if err != nil {
		return nil, refuse(codeInvalid, "parameters: %v", err)
	}
	at := v.chain.entry(acc.Shard.SeqNo)
	c7, err := v.methodContext(at, q.Account, &st)
	if err != nil {
		return nil, err
	}
	res, err := v.vm.ExecuteGetMethod(st.StateInit.Code, st.StateInit.Data, c7, vm.GasWithLimit(getMethodGas), stack, tvm.ExecutionConfig{Config: v.prices})
	if err != nil {
		return nil, err
	}
	out := tonapi.RunMethodResult{Mode: q.Mode & methodModes, ID: q.ID, ShardBlock: acc.Shard, ExitCode: int32(res.ExitCode)}
	if q.Mode&methodProof != 0 {
		out.Proof, out.ShardProof = acc.Proof, acc.ShardProof
	}
	if q.Mode&methodStateProof != 0 {
		if out.StateProof, err = prove(acc.State, loadTree); err != nil {
			return nil, err
		}
	}
	if q.Mode&methodResult != 0 {
		result, err := tlb.NewStackFromVM(res.Stack)
		if err != nil {
			return nil, err
		}
		if out.Result, err = result.ToCell(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// methodStack is the stack that a get method starts with: its parameters, then its number.
func methodStack(q tonapi.RunSmcMethod) (*vm.Stack, error) {
	c, err := cell.FromBOC(q.Params)
	if err != nil {
		return nil, err
	}
	var params tlb.Stack
	if err = tlb.Parse(&params, c); err != nil {
		return nil, err
	}
	stack := vm.NewStack()
	for params.Depth() > 0 { // pops the bottom first
		p, err := params.Pop()
		if err != nil {
			return nil, err
		}
		if err = stack.PushHostValue(p); err != nil {
			return nil, err
		}
	}
	return stack, stack.PushInt(new(big.Int).SetUint64(q.MethodID))
}

// methodContext is register c7: what a get method can learn about its account and the network. Earlier blocks are not
// in it.
func (v view) methodContext(at *placed, acc tonapi.AccountID, st *tlb.AccountState) (tuple.Tuple, error) {
	block, err := v.prices.NewBlockContext(tvm.BlockOptions{Now: at.utime, BlockLT: int64(at.endLT)})
	if err != nil {
		return tuple.Tuple{}, err
	}
	var unpacked any
	if t, ok := block.UnpackedConfig(); ok {
		unpacked = t
	}
	due := new(big.Int)
	if st.StorageInfo.DuePayment != nil {
		due = st.StorageInfo.DuePayment.Nano()
	}
	const magic = 0x076ef1ea
	self := cell.BeginCell().MustStoreAddr(address.NewAddress(0, byte(acc.Workchain), acc.ID)).ToSlice()
	lt := new(big.Int).SetUint64(at.endLT)
	zero := func() *big.Int { return new(big.Int) }
	return tuple.NewTupleOwned([]any{tuple.NewTupleOwned([]any{
		big.NewInt(magic), zero(), zero(), big.NewInt(int64(at.utime)), lt, lt, zero(), // no actions or messages, time, no seed
		tuple.NewTupleOwned([]any{st.Balance.Nano(), nil}), self, v.params, st.StateInit.Code,
		tuple.NewTupleOwned([]any{zero(), nil}), zero(), nil, // incoming value, storage fees, previous blocks
		unpacked, due, nil, nil, // config, debt, precompiled gas, incoming message
	})}), nil
}
