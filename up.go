//go:build !worker

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// upConfig says how the network on this machine runs.
type upConfig struct {
	// Data is the folder that keeps everything; see dataVersion.
	Data string `koanf:"data"`
	// HTTP and NATS are where gateway, dashboard and message system listen; port 0 takes a free one.
	HTTP string `koanf:"http"`
	NATS string `koanf:"nats"`
	// Sync makes every acknowledged write survive a power loss; without it they survive kill -9.
	Sync bool `koanf:"sync"`
	// Slots is how many sequences the embedded engine runs at one time.
	Slots int `koanf:"slots"`
	// OperatorToken allows the dashboard's actions; empty makes it read-only.
	OperatorToken string `koanf:"operator_token"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `koanf:"log_level"`
}

// upCommand runs the whole network on one machine.
func upCommand() *cobra.Command {
	conf := upConfig{
		Data: defaultDataDir(), HTTP: "127.0.0.1:8080", NATS: "127.0.0.1:4222", Slots: defaultSlots, LogLevel: "warn",
	}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole network on this machine and keep its state",
		Long: `Run the whole network in one process: message system, key broker, control, a worker with
the embedded model, settlement with an embedded TON chain, OpenAI gateway and dashboard.

The hardware is simulated and the money is the embedded chain's: this is for development
and for trying things out, and everything says so. State is kept in --data; a second start
continues where the first stopped: queued jobs run, balances stand.`,
		Example: `  cocoon up
  cocoon up --data ./net --http 127.0.0.1:0 --nats 127.0.0.1:0`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.String("data", conf.Data, "folder that keeps the state")
	f.String("http", conf.HTTP, "address of gateway and dashboard; port 0 takes a free one")
	f.String("nats", conf.NATS, "address of the message system; port 0 takes a free one")
	f.Bool("sync", false, "survive a power loss too, not only kill -9; slower")
	f.Int("slots", conf.Slots, "sequences that the embedded engine runs at one time")
	f.String("operator-token", "", "allow the dashboard's actions to whoever has this token (at least 16 characters)")
	f.String("log-level", conf.LogLevel, "debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cli.Load(cmd, "up", &conf); err != nil {
			return err
		}
		return up(cmd.Context(), conf, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// up opens the network, says where it is and serves until ctx ends; then it drains.
func up(ctx context.Context, conf upConfig, out, errs io.Writer) error {
	log, err := newLogger(errs, conf.LogLevel)
	if err != nil {
		return err
	}
	listener, err := listen(ctx, "http", conf.HTTP)
	if err != nil {
		return err
	}
	defer listener.Close()
	tracer, stopTraces, err := cli.Traces(ctx, "cocoon-up", log)
	if err != nil {
		return err
	}
	defer stopTraces()
	metrics := prometheus.NewRegistry()
	n, err := openNetwork(ctx, networkConfig{
		Stake: upStake,
		Data:  conf.Data, NATS: conf.NATS, Sync: conf.Sync, Log: log, BlockTime: upBlockTime, Metrics: metrics, Tracer: tracer,
	})
	if err != nil {
		return err
	}
	defer n.close()
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.run(gctx) })
	group.Go(func() error {
		if err := n.ready(gctx); err != nil {
			return err
		}
		group.Go(func() error { return n.runWorker(gctx, conf.Slots) })
		handler, err := n.handler(gctx, group, metrics, conf.OperatorToken)
		if err != nil {
			return err
		}
		announce(out, n, listener.Addr().String())
		return serveHTTP(gctx, listener, handler, log)
	})
	err = group.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		fmt.Fprintln(errs, "cocoon: stopped; the state is kept in", conf.Data)
		return nil
	}
	return err
}

// announce says where everything is, with a command that works.
func announce(w io.Writer, n *network, httpAddr string) {
	fmt.Fprintf(w, `Cocoon is up: the whole network on this machine.
SIMULATED hardware and an embedded chain: nothing here is protected and no money is real.

  gateway    http://%[1]s/v1
  dashboard  http://%[1]s/
  NATS       %[2]s
  data       %[3]s

Try it:
  curl -s http://%[1]s/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"model": %[4]q, "messages": [{"role": "user", "content": "Translate to French: the red cat sleeps"}]}'

Ctrl-C stops it and loses nothing.
`, httpAddr, n.natsURL(), n.data.path, n.modelName())
}

// listen takes an address now, so that a taken port is known before anything else starts.
func listen(ctx context.Context, what, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err == nil {
		return l, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &schemas.Error{Kind: schemas.KindUnavailable, Message: fmt.Sprintf("--%s %s: the port is taken; choose another, or 0 for a free one", what, addr), Err: err}
	}
	return nil, &schemas.Error{Kind: schemas.KindInvalid, Message: fmt.Sprintf("--%s %s: %v", what, addr, err), Err: err}
}

// shutdownTime is how long open requests may take after the end was asked for.
const shutdownTime = 10 * time.Second

// serveHTTP serves until ctx ends and then lets open requests finish.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("http: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		server.Close()
	}
	<-done
	return nil
}
