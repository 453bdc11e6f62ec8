//go:build !worker

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/consumers/dashboard"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// dashboardConfig is the section "dashboard" of the configuration.
type dashboardConfig struct {
	// Listen is the address of the pages.
	Listen string `koanf:"listen"`
	// Trust is the file with the root keys and the environment that the shown documents are verified against.
	Trust string `koanf:"trust"`
	// TokenFile holds the operator token that allows actions; empty makes the pages read-only.
	TokenFile string `koanf:"token_file"`
}

// Times of the dashboard's server.
const (
	dashboardHeader = 10 * time.Second
	dashboardEnd    = 5 * time.Second
	// maxTokenFile bounds the token file in bytes.
	maxTokenFile = 4 << 10
)

// Dashboard is `cocoon dashboard`: the pages for operators, beside a network that runs elsewhere.
func Dashboard(connect Connect) *cobra.Command {
	conf := dashboardConfig{Listen: "127.0.0.1:8090"}
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Serve the live pages for operators and the public status page",
		Long: `Serve the live pages for operators and the public status page of a network.

It reads what is public in the message system and holds no key. Without a token file it is
read-only. Money is shown where settlement runs beside it, as in "cocoon up".`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.String("listen", conf.Listen, "address of the pages")
	f.String("trust", "", "file with the root keys and the environment to believe in (required)")
	f.String("token-file", "", "file with the operator token that allows actions, at least 16 characters")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cli.Load(cmd, "dashboard", &conf); err != nil {
			return err
		}
		return serveDashboard(cmd, conf, connect)
	}
	return cmd
}

// dashboardGC is how much garbage may gather, in percent of what lives. A large fleet makes much of it beside a small heap: this
// spares a fifth of the processor's time for a few megabytes.
const dashboardGC = 400

// serveDashboard looks at the network and serves the pages until the command's context ends.
func serveDashboard(cmd *cobra.Command, conf dashboardConfig, connect Connect) error {
	if conf.Trust == "" {
		return cli.Usagef("--trust is required: the file says whose signatures count")
	}
	text, err := os.ReadFile(conf.Trust)
	if err != nil {
		return cli.Usagef("--trust: %w", err)
	}
	trust, err := schemas.ParseTrust(text)
	if err != nil {
		return fmt.Errorf("--trust %s: %w", conf.Trust, err)
	}
	token, err := readToken(conf.TokenFile)
	if err != nil {
		return err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(dashboardGC))
	listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", conf.Listen)
	if err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "--listen: %w", err)
	}
	defer listener.Close()
	bus, err := connect(cmd)
	if err != nil {
		return err
	}
	defer bus.Close(context.WithoutCancel(cmd.Context()))
	board, err := dashboard.New(dashboard.Config{Bus: bus, Trust: trust, Token: token})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "dashboard  http://%s/\nstatus     http://%[1]s/status\n", listener.Addr())
	server := &http.Server{Handler: board.Handler(), ReadHeaderTimeout: dashboardHeader}
	group, ctx := errgroup.WithContext(cmd.Context())
	group.Go(func() error { return board.Run(ctx) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), dashboardEnd)
		defer cancel()
		if server.Shutdown(end) != nil {
			return server.Close() // open event streams never end by themselves
		}
		return nil
	})
	return group.Wait()
}

// readToken reads the operator token; no file means none.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", cli.Usagef("--token-file: %w", err)
	}
	if len(text) > maxTokenFile {
		return "", cli.Usagef("--token-file: is longer than 4 KiB")
	}
	for len(text) > 0 && (text[len(text)-1] == '\n' || text[len(text)-1] == '\r') {
		text = text[:len(text)-1]
	}
	return string(text), nil
}
