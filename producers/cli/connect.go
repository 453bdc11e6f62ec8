package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/sqlite"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/schemas/tracing"
	"github.com/cocoon-network/cocoon/streams"
)

// connection says who asks, whom to trust and where the network is.
type connection struct {
	nats, creds, trust, tenant, state, data string
	verbose                                 bool
}

// connectionFlags adds the flags of a connection to a noun, for all its verbs.
func connectionFlags(cmd *cobra.Command) *connection {
	c := &connection{}
	f := cmd.PersistentFlags()
	f.StringVar(&c.nats, "nats", "", "url of the network (env NATS_URL; default nats://127.0.0.1:4222)")
	f.StringVar(&c.creds, "creds", "", "credentials file (env NATS_CREDS)")
	f.StringVar(&c.trust, "trust", os.Getenv("COCOON_TRUST"), "file with root keys and environment (env COCOON_TRUST; default DATA/trust.json)")
	f.StringVar(&c.tenant, "tenant", os.Getenv("COCOON_TENANT"), "the tenant's identity file (env COCOON_TENANT; default DATA/tenant-local.json)")
	f.StringVar(&c.state, "state", os.Getenv("COCOON_STATE"), "folder that remembers what was submitted (env COCOON_STATE; default DATA/producer)")
	f.StringVar(&c.data, "data", os.Getenv("COCOON_DATA"), "data folder of \"cocoon up\" (env COCOON_DATA)")
	f.BoolVar(&c.verbose, "verbose", false, "say on standard error what the client does by itself")
	return c
}

// orIn is a path, or a file in the data folder when there is none.
func (c *connection) orIn(path, name string) (string, error) {
	if path != "" {
		return path, nil
	}
	data := c.data
	if data == "" {
		data = defaultData()
	}
	if data == "" {
		return "", cli.Usagef("there is no data folder: set --data, or --trust, --tenant and --state")
	}
	return filepath.Join(data, name), nil
}

// defaultData is the user's data folder for Cocoon, as `cocoon up` chooses it; empty when the system has none.
func defaultData() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "cocoon")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "share", "cocoon")
}

// stateDir is the folder that remembers what was submitted.
func (c *connection) stateDir() (string, error) { return c.orIn(c.state, "producer") }

// batchesDir is where batches live, batchDir where one does.
func (c *connection) batchesDir() (string, error) {
	dir, err := c.stateDir()
	return filepath.Join(dir, "batches"), err
}

func (c *connection) batchDir(id string) (string, error) {
	if !schemas.ValidToken(id) {
		return "", cli.Usagef("%q is not the id of a batch", id)
	}
	dir, err := c.batchesDir()
	return filepath.Join(dir, id), err
}

// log is where a verb's client logs to.
func (c *connection) log(cmd *cobra.Command) *slog.Logger {
	if !c.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
}

// readFile reads a file that the user named or that must be in the data folder.
func readFile(what, path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Usagef("%s %s does not exist: set --%s, or --data to the data folder of `cocoon up`", what, path, what)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}

// options are the client's options by the connection's files.
func (c *connection) options(cmd *cobra.Command) (o producers.Options, err error) {
	path, err := c.orIn(c.trust, "trust.json")
	if err != nil {
		return o, err
	}
	b, err := readFile("trust", path)
	if err != nil {
		return o, err
	}
	if o.Trust, err = schemas.ParseTrust(b); err != nil {
		return o, fmt.Errorf("%s: %w", path, err)
	}
	if path, err = c.orIn(c.tenant, "tenant-local.json"); err != nil {
		return o, err
	}
	if b, err = readFile("tenant", path); err != nil {
		return o, err
	}
	if o.Tenant, err = enclave.ParseTenant(b); err != nil {
		return o, fmt.Errorf("%s: %w", path, err)
	}
	o.Logger = c.log(cmd)
	return o, nil
}

// session is a client with what must be closed after it.
type session struct {
	*producers.Client
	record producers.Record
	tracer *tracing.Tracer
	// stopTraces sends the spans that are left.
	stopTraces func()
}

// open connects as the tenant, with the record of jobs in the state folder.
func (c *connection) open(cmd *cobra.Command) (*session, error) {
	o, err := c.options(cmd)
	if err != nil {
		return nil, err
	}
	dir, err := c.stateDir()
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	tracer, stopTraces, err := cli.Traces(cmd.Context(), "cocoon-"+cmd.Name(), o.Logger)
	if err != nil {
		return nil, err
	}
	record, err := sqlite.Open(cmd.Context(), filepath.Join(dir, "jobs.db"))
	if err != nil {
		stopTraces()
		return nil, err
	}
	o.Record, o.Tracer = record, tracer
	roots := o.Trust.Roots.Hash()
	o.FloorFile = filepath.Join(dir, "policy-floor-"+hex.EncodeToString(roots[:8])) // one for each network
	client, err := producers.Dial(cmd.Context(), streams.Config{URL: c.nats, Creds: c.creds, Name: "cocoon " + cmd.Name(), Logger: o.Logger}, o)
	if err != nil {
		stopTraces()
		return nil, errors.Join(err, record.Close())
	}
	if o.Trust.Environment == schemas.Simulated {
		fmt.Fprintln(cmd.ErrOrStderr(), "environment: SIMULATED hardware; nothing is confidential here")
	}
	return &session{client, record, tracer, stopTraces}, nil
}

// close ends a session. Its errors do not change what the verb did.
func (s *session) close(cmd *cobra.Command) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), closeWait)
	defer cancel()
	err := errors.Join(s.Client.Close(ctx), s.record.Close())
	s.stopTraces()
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", err)
	}
}
