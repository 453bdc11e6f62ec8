package cli

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
	"github.com/cocoon-network/cocoon/streams/access"
)

// confFlags are the flags of `topology conf`.
type confFlags struct {
	layout                      string
	server                      access.Server
	tenants, services, models   []string
	system, callout, issuer, xk string
	keys                        string
}

// topologyConf is `topology conf`.
func topologyConf() *cobra.Command {
	var f confFlags
	cmd := &cobra.Command{
		Use: "conf", Short: "Print a configuration for nats-server with the permissions of every role", Args: cobra.NoArgs,
		Long: `development puts all roles into one account, with passwords that are no secret: for one machine.

production gives the services, the workers and each tenant an account, and turns TLS on. With --keys it reads the public
halves of the folder that "cocoon keys nats" made: no secret gets into what it prints. Without, or besides, public NKeys are
given one by one: --service ROLE=U… for broker, settler, control, operator, dashboard and host, and the keys of the callout
service, through which workers log in by attestation and tenants with a pass. Print it again for a new tenant, and reload
the servers twice ("nats-server --signal reload"): a server begins the imports of a new account at the reload after the one
that brought it. Nobody but workers is disconnected by that, and these come back by themselves.`,
		Example: `  cocoon topology conf --layout development --tenant tabcdefghijklmnop > nats.conf
  cocoon topology conf --layout production --keys keys > nats.conf
  cocoon topology conf --layout production --keys keys --name nats-1 --cluster 0.0.0.0:6222 \
    --route nats://nats-1:6222,nats://nats-2:6222,nats://nats-3:6222 > nats-1.conf`,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.layout, "layout", "development", "development or production")
	fl.StringVar(&f.server.Listen, "listen", "", "host:port (default 127.0.0.1:4222, in production 0.0.0.0:4222)")
	fl.StringVar(&f.server.Store, "store", "", "folder of the streams (default ./nats)")
	fl.StringVar(&f.server.CertFile, "tls-cert", "", "certificate (default with --keys: the folder's)")
	fl.StringVar(&f.server.KeyFile, "tls-key", "", "its key (default with --keys: the folder's)")
	fl.StringVar(&f.server.CAFile, "tls-ca", "", "authority that clients' certificates must come from (default with --keys: the folder's)")
	fl.StringVar(&f.server.Name, "name", "", "name of this server in a cluster")
	fl.StringVar(&f.server.Cluster, "cluster", "", "host:port where this server listens for the others of a cluster")
	fl.StringSliceVar(&f.server.Routes, "route", nil, "urls of all servers of a cluster")
	fl.StringVar(&f.keys, "keys", "", "production: folder that \"cocoon keys nats\" made")
	fl.StringArrayVar(&f.tenants, "tenant", nil, "id of a tenant (may be repeated)")
	fl.StringArrayVar(&f.models, "worker", nil, "development: a worker and its queues, ID=SHARD.SLUG,… (may be repeated)")
	fl.StringArrayVar(&f.services, "service", nil, "production: ROLE=NKEY (may be repeated)")
	fl.StringVar(&f.system, "system", "", "production: user NKey of the server's administrators")
	fl.StringVar(&f.callout, "callout", "", "production: user NKey of the callout service")
	fl.StringVar(&f.issuer, "issuer", "", "production: account NKey that signs workers' users and tenants' passes")
	fl.StringVar(&f.xk, "xkey", "", "production: curve NKey to which log-ins are encrypted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		text, err := f.text()
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write([]byte(text))
		return err
	}
	return cmd
}

// text makes the configuration.
func (f *confFlags) text() (string, error) {
	switch f.layout {
	case "development":
		return f.development()
	case "production":
		return f.production()
	}
	return "", cli.Usagef("--layout must be development or production, not %q", f.layout)
}

func (f *confFlags) development() (string, error) {
	tenants, err := f.tenantIDs()
	if err != nil {
		return "", err
	}
	var workers []access.WorkerUser
	for _, s := range f.models {
		w, err := parseWorker(s)
		if err != nil {
			return "", &cli.UsageError{Err: err}
		}
		workers = append(workers, w)
	}
	return access.Development(f.server, tenants, workers), nil
}

// tenantIDs are the tenants that flags name.
func (f *confFlags) tenantIDs() ([]schemas.TenantID, error) {
	var tenants []schemas.TenantID
	for _, s := range f.tenants {
		t, err := schemas.ParseTenantID(s)
		if err != nil {
			return nil, &cli.UsageError{Err: err}
		}
		tenants = append(tenants, t)
	}
	return tenants, nil
}

// parseWorker reads ID=SHARD.SLUG,….
func parseWorker(s string) (access.WorkerUser, error) {
	id, queues, ok := strings.Cut(s, "=")
	worker, err := schemas.ParseWorkerID(id)
	if err != nil || !ok {
		return access.WorkerUser{}, schemas.FieldError("worker", "must look like ID=SHARD.SLUG")
	}
	w := access.WorkerUser{Worker: worker, Lanes: streams.Topology{}.WithDefaults().Lanes}
	for q := range strings.SplitSeq(queues, ",") {
		r, err := streams.ParseRoute(q)
		if err != nil {
			return w, err
		}
		w.Models = append(w.Models, r)
	}
	return w, nil
}

func (f *confFlags) production() (string, error) {
	if (f.server.Name == "" || f.server.Cluster == "") != (len(f.server.Routes) == 0) {
		return "", cli.Usagef("a server of a cluster needs --name, --cluster and --route")
	}
	n := access.Network{
		Services: map[access.Role]string{},
		System:   f.system, Callout: f.callout, Issuer: f.issuer, XKey: f.xk,
	}
	if f.keys != "" {
		var err error
		if n, err = access.OpenKeys(f.keys).Network(); err != nil {
			return "", err
		}
		if server := filepath.Join(f.keys, access.FolderServer); f.server.CertFile == "" {
			f.server.CertFile, f.server.KeyFile = filepath.Join(server, access.FileCert), filepath.Join(server, access.FileKey)
			f.server.CAFile = filepath.Join(server, access.FileCA)
		}
	}
	n.Server = f.server
	n.Server.Sync = true
	for _, s := range f.services {
		role, key, ok := strings.Cut(s, "=")
		if !ok {
			return "", cli.Usagef("--service must look like ROLE=NKEY, not %q", s)
		}
		n.Services[access.Role(role)] = key
	}
	tenants, err := f.tenantIDs()
	if err != nil {
		return "", err
	}
	n.Tenants = append(n.Tenants, tenants...)
	text, err := access.Production(n)
	if err != nil {
		return "", &cli.UsageError{Err: err}
	}
	return text, nil
}
