//go:build !worker

package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

// Amounts of the embedded chain's money, which is worth nothing.
const (
	// treasuryStart is what the treasury has before anybody pays in: it covers gas and what deposits do not yet.
	treasuryStart = 1_000 * schemas.TON
	// treasuryLow is the balance below which the faucet fills the treasury again.
	treasuryLow = 100 * schemas.TON
	// walletGas is what a tenant's wallet needs beside what it sends.
	walletGas = schemas.TON
)

// chainWait bounds the wait for something to appear on the embedded chain, which makes a block in well under a second.
const chainWait = 30 * time.Second

// money is the chain and the books of a network on one machine.
type money struct {
	net      *tonnet.Net
	server   *tonnet.Server
	chain    *ton.Chain
	ledger   *settlement.Ledger
	treasury *ton.Treasury
}

// openMoney starts the embedded chain, connects to it as a stranger would, over TCP and believing only what is proven,
// and opens the ledger. The chain makes blocks while run is running.
func openMoney(ctx context.Context, data *dataDir, blockTime time.Duration, log *slog.Logger) (m *money, err error) {
	m = &money{}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.net, err = tonnet.Open(tonnet.Config{Dir: data.sub("ton"), BlockTime: blockTime, Logger: log}); err != nil {
		return m, fmt.Errorf("embedded chain: %w", err)
	}
	m.server = m.net.NewServer()
	if err := m.server.Listen("127.0.0.1:0"); err != nil {
		return m, fmt.Errorf("embedded chain: %w", err)
	}
	global := m.net.GlobalConfig(m.server)
	if err := writeFile(data.sub("chain.json"), global); err != nil { // verbs in other processes read it: cocoon reconcile --chain …
		return m, denied(data.path, err)
	}
	if m.chain, err = ton.Connect(ctx, ton.Config{GlobalConfig: global, Logger: log}); err != nil {
		return m, fmt.Errorf("embedded chain: %w", err)
	}
	if m.ledger, err = settlement.OpenLedger(ctx, data.sub("ledger.db"), settlement.LedgerOptions{Logger: log}); err != nil {
		return m, fmt.Errorf("ledger: %w", err)
	}
	key, err := data.key("treasury.key")
	if err != nil {
		return m, err
	}
	if m.treasury, err = m.chain.Treasury(key, ton.TreasuryOptions{}); err != nil {
		return m, err
	}
	return m, nil
}

// wallet is the ordinary wallet of a key in the data folder.
func (d *dataDir) wallet(chain *ton.Chain, name string) (*ton.Wallet, error) {
	key, err := d.key(name)
	if err != nil {
		return nil, err
	}
	return chain.Wallet(key)
}

// close stops everything that was opened, in reverse order.
func (m *money) close() {
	if m.ledger != nil {
		m.ledger.Close()
	}
	if m.chain != nil {
		m.chain.Close()
	}
	if m.server != nil {
		m.server.Close()
	}
	if m.net != nil {
		m.net.Close()
	}
}

// fillTreasury has the faucet bring the treasury to its start balance when it is low.
func (m *money) fillTreasury(ctx context.Context) error {
	state, err := m.treasury.State(ctx)
	if err != nil {
		return err
	}
	if state.Balance >= treasuryLow {
		return nil
	}
	return m.faucet(ctx, m.treasury, treasuryStart, settlement.TopUpMemo)
}

// holder is an account whose proven balance can be asked.
type holder interface {
	Address() schemas.Owner
	State(ctx context.Context) (ton.State, error)
}

// faucet gives devnet money to an account and waits until the chain proves that it is there.
func (m *money) faucet(ctx context.Context, to holder, amount schemas.NanoTON, comment string) error {
	before, err := to.State(ctx)
	if err != nil {
		return err
	}
	a, err := address.ParseRawAddr(string(to.Address()))
	if err != nil {
		return err
	}
	if err := m.net.Give(a, tlb.FromNanoTONU(uint64(amount)), comment); err != nil {
		return err
	}
	return eventually(ctx, chainWait, "the faucet's money on chain", func(ctx context.Context) (bool, error) {
		now, err := to.State(ctx)
		return err == nil && now.Balance > before.Balance, err
	})
}

// account finds or makes a tenant's account in the books. stake is what of the tenant's money stays locked; it bounds the
// work that may be in flight before it is booked.
func (m *money) account(ctx context.Context, t *enclave.Tenant, name string, stake schemas.NanoTON) (settlement.Tenant, error) {
	return m.ledger.CreateTenant(ctx, settlement.Tenant{ID: t.ID(), Name: name, Key: t.Public(), StakeTarget: stake})
}

// pay has a tenant pay into the network as every tenant does: from a wallet of its own, naming itself by memo. It
// returns when settlement has credited it.
func (m *money) pay(ctx context.Context, key ed25519.PrivateKey, account settlement.Tenant, amount schemas.NanoTON) error {
	wallet, err := m.chain.Wallet(key)
	if err != nil {
		return err
	}
	if err := m.faucet(ctx, wallet, amount+walletGas, ""); err != nil {
		return err
	}
	before, err := m.ledger.Balance(ctx, account.ID)
	if err != nil {
		return err
	}
	if err := wallet.Send(ctx, ton.Transfer{To: m.treasury.Address(), Amount: amount, Comment: account.Memo}); err != nil {
		return err
	}
	return eventually(ctx, chainWait, "the deposit in the ledger", func(ctx context.Context) (bool, error) {
		now, err := m.ledger.Balance(ctx, account.ID)
		return err == nil && now.Paid+now.Stake > before.Paid+before.Stake, err
	})
}

// pollEvery is the pause between two looks at something that is about to happen.
const pollEvery = 50 * time.Millisecond

// eventually looks until done is true. Failures that may pass are looked over; the last one is reported with what was
// waited for when the time is up.
func eventually(ctx context.Context, limit time.Duration, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %s for %s", limit, what))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil && !schemas.Retriable(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
