//go:build !worker

package main

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers/dashboard"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/gateway"
	"github.com/cocoon-network/cocoon/producers/sqlite"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
	settlementcli "github.com/cocoon-network/cocoon/settlement/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// localTenant is the tenant whose identity the gateway of `cocoon up` holds, upDeposit what it pays in at the first start,
// and upStake what of that stays locked: enough for some thousand batch lines in flight.
const (
	localTenant = "local"
	upDeposit   = 1_000 * schemas.TON
	upStake     = 250 * schemas.TON
)

// handler builds the HTTP side of a network on one machine: gateway, dashboard, health and metrics. What goes on in the
// background runs in group.
func (n *network) handler(ctx context.Context, group *errgroup.Group, metrics *prometheus.Registry, operatorToken string) (http.Handler, error) {
	identity, account, err := n.tenant(ctx, localTenant)
	if err != nil {
		return nil, err
	}
	if err := n.fundOnce(ctx, account); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(n.data.sub("gateway"), 0o700); err != nil {
		return nil, denied(n.data.path, err)
	}
	record, err := sqlite.Open(ctx, n.data.sub("gateway/jobs.db"))
	if err != nil {
		return nil, err
	}
	client, err := producers.New(n.bus, producers.Options{
		Tenant: identity, Trust: n.trust, Verifier: n.verifier, Record: record, Tracer: n.conf.Tracer, Logger: n.conf.Log,
	})
	if err != nil {
		return nil, err
	}
	gate, err := gateway.New(gateway.Options{Client: client, Dir: n.data.sub("gateway"), Metrics: metrics, Tracer: n.conf.Tracer, Logger: n.conf.Log})
	if err != nil {
		return nil, err
	}
	board, err := dashboard.New(dashboard.Config{
		Bus: n.bus, Trust: n.trust, Money: settlementcli.Money(n.money.ledger, "embedded devnet"),
		Batches: gatewayBatches{gate}, Token: operatorToken, Log: n.conf.Log,
	})
	if err != nil {
		return nil, err
	}
	group.Go(func() error { return gate.Run(ctx) })
	group.Go(func() error { return board.Run(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		client.Close(end)
		return record.Close()
	})
	mux := http.NewServeMux()
	mux.Handle("/v1/", gate)
	mux.Handle("/", board.Handler())
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", n.serveReady)
	return mux, nil
}

// gatewayBatches shows a gateway's batches to the dashboard.
type gatewayBatches struct{ gate *gateway.Gateway }

// Batches implements dashboard.BatchSource.
func (g gatewayBatches) Batches(ctx context.Context, limit int) ([]dashboard.BatchRow, error) {
	listed, err := g.gate.Batches(ctx, limit)
	rows := make([]dashboard.BatchRow, 0, len(listed))
	for _, l := range listed {
		r := dashboard.BatchRow{
			ID: l.ID, Name: cmp.Or(l.Metadata["name"], l.Metadata["description"]), Model: l.Model, State: l.Status, Total: uint64(l.Total),
			Waiting: uint64(max(l.Total-l.Completed-l.Failed, 0)), Succeeded: uint64(l.Completed), Failed: uint64(l.Failed),
			Tokens: l.Usage.Total(), Charged: l.Cost, Created: l.Made, Last: l.Finished, Expires: l.Expires, Reasons: map[string]uint64{},
		}
		for reason, n := range l.Reasons {
			r.Reasons[reason] = uint64(n)
		}
		rows = append(rows, r)
	}
	return rows, err
}

// readyProbe bounds the look behind /readyz.
const readyProbe = 2 * time.Second

// serveReady answers whether jobs can be submitted.
func (n *network) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyProbe)
	defer cancel()
	if err := n.bus.Flush(ctx); err != nil {
		http.Error(w, "the message system does not answer", http.StatusServiceUnavailable)
		return
	}
	select {
	case <-n.serving:
		w.Write([]byte("ok\n"))
	default:
		http.Error(w, "the key broker is starting", http.StatusServiceUnavailable)
	}
}

// fundOnce has the local tenant pay in at the first start. A tenant that has ever paid has its balance to live on.
func (n *network) fundOnce(ctx context.Context, account settlement.Tenant) error {
	balance, err := n.money.ledger.Balance(ctx, account.ID)
	if err != nil || balance.Paid+balance.Stake > 0 {
		return err
	}
	key, err := n.data.key("wallet-" + localTenant + ".key")
	if err != nil {
		return err
	}
	if err := n.money.pay(ctx, key, account, upDeposit); err != nil {
		return err
	}
	return eventually(ctx, chainWait, "the brokers to hear of the deposit", func(ctx context.Context) (bool, error) {
		entry, err := n.bus.Bucket(streams.BucketCredit).Get(ctx, string(account.ID))
		if err != nil {
			return false, nil // not published yet
		}
		credit, err := schemas.ParseCredit(entry.Value)
		return err == nil && credit.Available > 0, err
	})
}
