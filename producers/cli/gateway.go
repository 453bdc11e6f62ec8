package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/producers/gateway"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// GatewayConfig configures `cocoon gateway`: section gateway of the configuration file, COCOON_GATEWAY__… variables and
// flags.
type GatewayConfig struct {
	// Listen is the address of the gateway. It speaks plain HTTP and sees plaintext: keep it on loopback or behind TLS.
	Listen string `koanf:"listen"`
	// Keys is the file with API keys; empty lets anyone in who reaches the listener.
	Keys string `koanf:"keys"`
	// Dir keeps files and batches; default: gateway in the state folder.
	Dir string `koanf:"dir"`
	// Detach lets jobs go on when their HTTP client goes away.
	Detach bool `koanf:"detach"`
	// KeepAlive is the pause after which a stream without events gets a comment.
	KeepAlive time.Duration `koanf:"keep_alive"`
	// MaxConcurrent bounds the requests that wait for an answer.
	MaxConcurrent int `koanf:"max_concurrent"`
	// Metrics is the address of /metrics and /healthz; empty serves none.
	Metrics string `koanf:"metrics"`
	// DrainTimeout is how long requests may finish after Ctrl-C.
	DrainTimeout time.Duration `koanf:"drain_timeout"`
}

// GatewayCommand is `cocoon gateway`.
func GatewayCommand() *cobra.Command {
	conf := GatewayConfig{
		Listen: "127.0.0.1:8080", KeepAlive: gateway.DefaultKeepAlive, MaxConcurrent: gateway.DefaultMaxConcurrent, DrainTimeout: 30 * time.Second,
	}
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Serve OpenAI's API for one tenant",
		Long: `Serve OpenAI's HTTP API: change an application's base URL and its requests are sealed, run
in attested enclaves, verified and paid by receipt.

The gateway belongs on the tenant's side: it sees every prompt and answer in the clear and
holds the tenant's identity. It listens on loopback unless told otherwise.`,
		Example: `  cocoon gateway --listen 127.0.0.1:8080
  cocoon gateway keys create app --cap 5 --per-minute 60`,
		Args: cobra.NoArgs,
	}
	conn := connectionFlags(cmd)
	f := cmd.Flags()
	f.String("listen", conf.Listen, "address; port 0 takes a free one")
	f.String("keys", "", "file with API keys (default: none, anyone may call who reaches the listener)")
	f.String("dir", "", "folder of files and batches (default: gateway in the state folder)")
	f.Bool("detach", false, "let a job go on when its client goes away, instead of cancelling it")
	f.Duration("keep-alive", conf.KeepAlive, "pause after which a stream without events gets a comment")
	f.Int("max-concurrent", conf.MaxConcurrent, "the most requests that wait for an answer")
	f.String("metrics", "", "address of Prometheus metrics (/metrics, /healthz); empty: none")
	f.Duration("drain-timeout", conf.DrainTimeout, "how long requests may finish after Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cli.Load(cmd, "gateway", &conf); err != nil {
			return err
		}
		return runGateway(cmd, conn, conf)
	}
	cmd.AddCommand(gatewayKeys(conn))
	return cmd
}

// runGateway serves until Ctrl-C, then lets requests finish.
func runGateway(cmd *cobra.Command, conn *connection, conf GatewayConfig) error {
	s, err := conn.open(cmd)
	if err != nil {
		return err
	}
	defer s.close(cmd)
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	o := gateway.Options{Client: s, Dir: conf.Dir, Detach: conf.Detach, KeepAlive: conf.KeepAlive, MaxConcurrent: conf.MaxConcurrent, Tracer: s.tracer, Logger: log}
	if o.Dir == "" {
		dir, err := conn.stateDir()
		if err != nil {
			return err
		}
		o.Dir = filepath.Join(dir, "gateway")
	}
	if conf.Keys != "" {
		if o.Keys, err = gateway.OpenKeys(conf.Keys); err != nil {
			return err
		}
		defer o.Keys.Close()
	}
	registry := prometheus.NewRegistry()
	o.Metrics = registry
	g, err := gateway.New(o)
	if err != nil {
		return err
	}
	stop, err := cli.Ops{Address: conf.Metrics, Metrics: registry, Log: o.Logger}.Start(cmd.Context())
	if err != nil {
		return err
	}
	defer stop()
	listener, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", conf.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "gateway of tenant %s on http://%s/v1 (%s)\n", s.Tenant(), listener.Addr(), s.Environment())
	return serve(cmd.Context(), g, listener, conf.DrainTimeout)
}

// serve serves until ctx ends, then drains.
func serve(ctx context.Context, g *gateway.Gateway, listener net.Listener, drain time.Duration) error {
	server := g.Server()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.Run(ctx) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			return errors.Join(fmt.Errorf("drain: %w", err), server.Close())
		}
		return nil
	})
	return group.Wait()
}

// gatewayKeys is `cocoon gateway keys`.
func gatewayKeys(conn *connection) *cobra.Command {
	var path string
	cmd := &cobra.Command{Use: "keys", Short: "API keys of a gateway: hashed, with limits on rate and spending"}
	cmd.PersistentFlags().StringVar(&path, "keys", "", "key file (default: keys.json in the state folder)")
	file := func() (string, error) {
		if path != "" {
			return path, nil
		}
		dir, err := conn.stateDir()
		return filepath.Join(dir, "keys.json"), err
	}
	cmd.AddCommand(keysCreate(file), keysList(file), keysRevoke(file))
	return cmd
}

// createdKey is a new key with its secret, shown once.
type createdKey struct {
	Secret string `json:"key"`
	gateway.Key
}

// keysCreate is `cocoon gateway keys create`.
func keysCreate(file func() (string, error)) *cobra.Command {
	var perMinute int
	var limit string
	cmd := &cobra.Command{
		Use: "create NAME", Args: cobra.ExactArgs(1),
		Short: "Make a key and show it, once",
	}
	cmd.Flags().IntVar(&perMinute, "per-minute", 0, "the most requests a minute (0: no bound)")
	cmd.Flags().StringVar(&limit, "cap", "", "the most that the key may spend in all, in TON (default: no bound)")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var most schemas.NanoTON
		var err error
		if limit != "" {
			if most, err = schemas.ParseTON(limit); err != nil || most <= 0 {
				return cli.Usagef("--cap must be a positive amount of TON")
			}
		}
		path, err := file()
		if err != nil {
			return err
		}
		secret, key, err := gateway.CreateKey(path, args[0], perMinute, most)
		if err != nil {
			return err
		}
		return cli.One(out, createdKey{secret, key}, func(k createdKey) [][2]string {
			return [][2]string{{"key", k.Secret}, {"id", k.ID}, {"name", k.Name}}
		})
	}
	return cmd
}

// keysList is `cocoon gateway keys ls`.
func keysList(file func() (string, error)) *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Args: cobra.NoArgs, Short: "List keys and what they have spent"}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		path, err := file()
		if err != nil {
			return err
		}
		list, err := gateway.ListKeys(path)
		if err != nil {
			return err
		}
		return cli.List(out, list, func(list []gateway.KeySpending) cli.Table {
			t := cli.Table{Header: []string{"ID", "NAME", "SPENT", "CAP", "PER MINUTE", "STATE"}}
			for _, k := range list {
				state, limit := "active", "none"
				if k.Revoked {
					state = "revoked"
				}
				if k.Cap > 0 {
					limit = k.Cap.String()
				}
				t.Rows = append(t.Rows, []string{k.ID, k.Name, k.Spent.String(), limit, fmt.Sprint(k.PerMinute), state})
			}
			return t
		})
	}
	return cmd
}

// keysRevoke is `cocoon gateway keys revoke`.
func keysRevoke(file func() (string, error)) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Aliases: []string{"rm"}, Args: cobra.ExactArgs(1),
		Short: "Make a key worthless, within a second also in a running gateway",
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := file()
			if err != nil {
				return err
			}
			return gateway.RevokeKey(path, args[0])
		},
	}
}
