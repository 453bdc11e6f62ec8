package tonnet

import (
	"bytes"
	"fmt"

	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/xssnick/tonutils-go/tlb"
)

// submit takes an external message into the mempool if the contract it is for accepts it now, as a liteserver does
// before it passes a message on. The same message twice is one.
func (n *Net) submit(boc []byte) error {
	if len(boc) > MaxExternal {
		return refuse(codeInvalid, "external message of %d bytes, at most %d", len(boc), MaxExternal)
	}
	msg, err := cell.FromBOC(boc)
	if err != nil {
		return refuse(codeInvalid, "external message: %v", err)
	}
	if msg.Depth() > MaxExternalDepth {
		return refuse(codeInvalid, "external message is %d cells deep, at most %d", msg.Depth(), MaxExternalDepth)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	if err = n.acceptable(msg); err != nil {
		n.stats.Refused++
		return err
	}
	for _, waiting := range n.mempool {
		if bytes.Equal(waiting.Hash(), msg.Hash()) {
			return nil
		}
	}
	if len(n.mempool) >= MaxPending {
		return refuse(codeNotAccepted, "too many external messages wait for a block")
	}
	n.mempool = append(n.mempool, msg)
	n.wake()
	return nil
}

// acceptable runs the contract up to the point where it agrees to pay for the message. If it does not, the error has
// the exit code.
func (n *Net) acceptable(msg *cell.Cell) error {
	pm, err := tvm.PrepareMessage(msg)
	if err != nil {
		return refuse(codeInvalid, "external message: %v", err)
	}
	if pm.Message().MsgType != tlb.MsgTypeExternalIn {
		return refuse(codeInvalid, "not an inbound external message")
	}
	to := pm.Message().Msg.DestAddr()
	if wc := to.Workchain(); wc != basechain && wc != masterchain {
		return refuse(codeInvalid, "no workchain %d", wc)
	}
	acc, err := n.account(keyOf(to))
	if err != nil {
		return err
	}
	block, err := n.prices.NewBlockContext(tvm.BlockOptions{Now: uint32(n.cfg.Now().Unix()), RandSeed: make([]byte, 32)})
	if err != nil {
		return err
	}
	opt := tvm.TransactionOptions{LogicalTime: int64(n.chain.entry(n.chain.last()).endLT + 1), AccountStorageStat: acc.storage}
	accepted, err := n.vm.CheckExternalMessageAccepted(block, acc.prepared, pm, opt)
	if err != nil {
		return refuse(codeNotAccepted, "cannot apply external message to current state : %v", err)
	}
	if accepted {
		return nil
	}
	reason := "account has no code or no money"
	if res, err := n.vm.EmulateTransaction(block, acc.prepared, pm, opt); err == nil && res.Steps > 0 {
		reason = fmt.Sprintf("exitcode=%d, steps=%d, gas_used=%d", res.ExitCode, res.Steps, res.GasUsed)
	}
	return refuse(codeNotAccepted, "cannot apply external message to current state : External message was not accepted\n%s", reason)
}
