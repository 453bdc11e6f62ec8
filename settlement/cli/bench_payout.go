package cli

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/settlement"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

// benchRounds bounds the rounds until everybody is paid.
const benchRounds = 30

// clock is a chain clock that the benchmark moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now is the time.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// advance lets time pass.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// counted counts the messages that a treasury sends.
type counted struct {
	*ton.Treasury
	sent int
}

// Send counts and sends.
func (c *counted) Send(ctx context.Context, boc []byte) error {
	c.sent++
	return c.Treasury.Send(ctx, boc)
}

// benchPayout pays a number of workers on the devnet, read over ADNL under the Secure policy, and checks every balance.
func benchPayout(ctx context.Context, dir string, owners int) ([]cli.Figure, error) {
	n, err := newNetwork(owners, owners)
	if err != nil {
		return nil, err
	}
	l, err := n.ledger(ctx, filepath.Join(dir, "payout.db"))
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if _, err := n.take(ctx, l); err != nil {
		return nil, err
	}
	c := &clock{now: time.Now().UTC().Truncate(time.Second)}
	net, err := tonnet.Open(tonnet.Config{Now: c.Now})
	if err != nil {
		return nil, err
	}
	defer net.Close()
	treasury, closeAll, err := benchTreasury(ctx, net, c, owners)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	took, err := payAll(ctx, l, net, c, treasury)
	if err != nil {
		return nil, err
	}
	return payoutFigures(ctx, l, net, treasury, owners, took)
}

// benchTreasury makes a treasury on the devnet, connected over TCP, with enough money.
func benchTreasury(ctx context.Context, net *tonnet.Net, c *clock, owners int) (*counted, func(), error) {
	server := net.NewServer()
	if err := server.Listen("127.0.0.1:0"); err != nil {
		return nil, nil, err
	}
	chain, err := ton.Connect(ctx, ton.Config{GlobalConfig: net.GlobalConfig(server)})
	if err != nil {
		server.Close()
		return nil, nil, err
	}
	closeAll := func() { chain.Close(); server.Close() }
	treasury, err := chain.Treasury(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), ton.TreasuryOptions{})
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	to, err := address.ParseRawAddr(string(treasury.Address()))
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	if err := net.Give(to, tlb.FromNanoTONU(uint64(owners)*uint64(schemas.TON/8)+uint64(10*schemas.TON)), settlement.TopUpMemo); err != nil {
		closeAll()
		return nil, nil, err
	}
	c.advance(time.Second)
	return &counted{Treasury: treasury}, closeAll, net.ProduceAll(4)
}

// payAll makes rounds until nothing is owed, and returns how long that took.
func payAll(ctx context.Context, l *settlement.Ledger, net *tonnet.Net, c *clock, treasury *counted) (time.Duration, error) {
	payer, err := settlement.NewPayer(settlement.PayerConfig{Ledger: l, Treasury: treasury, Threshold: 1})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	for range benchRounds {
		if err := payer.Tick(ctx, false); err != nil {
			return 0, err
		}
		s, err := l.Payouts(ctx)
		if err != nil {
			return 0, err
		}
		if s.Owed == 0 && s.Inflight == 0 {
			return time.Since(start), nil
		}
		c.advance(5 * time.Second)
		if err := net.ProduceAll(4); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("workers are not paid after %d rounds", benchRounds)
}

// payoutFigures compares every balance on chain with the ledger, by the network's own account.
func payoutFigures(ctx context.Context, l *settlement.Ledger, net *tonnet.Net, treasury *counted, owners int, took time.Duration) ([]cli.Figure, error) {
	payees, err := l.Payees(ctx, owners)
	if err != nil {
		return nil, err
	}
	wrong := owners - len(payees)
	for _, p := range payees {
		to, err := address.ParseRawAddr(string(p.Owner))
		if err != nil {
			return nil, err
		}
		have, err := net.Balance(to)
		if err != nil {
			return nil, err
		}
		if p.Paid <= 0 || have.Nano().Int64() != int64(p.Paid) {
			wrong++
		}
	}
	s, err := l.Payouts(ctx)
	if err != nil {
		return nil, err
	}
	perBatch := float64(owners+ton.MaxTransfers-1) / ton.MaxTransfers
	return []cli.Figure{
		cli.Reported("payout_workers", "workers", float64(owners)),
		cli.AtMost("payout_messages", "messages", float64(treasury.sent), float64(int(perBatch))+2),
		cli.AtMost("payout_fee_per_transfer", "TON", float64(s.Gas)/float64(owners)/float64(schemas.TON), 0.00105),
		cli.AtMost("payout_wrong_balances", "workers", float64(wrong), 0),
		cli.Reported("payout_speed", "transfers/s", float64(owners)/took.Seconds()),
	}, nil
}
