package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams/access"
)

// natsKey is a user of the message system in a folder of keys. It holds no secret.
type natsKey struct {
	User string `json:"user"`
	// Context is the file that NATS_CONTEXT names to log in as the user.
	Context string `json:"context"`
	// Public is the public NKey by which the servers know the user. Tenants have none: they show a pass.
	Public string `json:"public_key,omitempty"`
}

// keysNATS is "keys nats".
func keysNATS() *cobra.Command {
	var o access.KeysOptions
	var tenants []string
	cmd := &cobra.Command{
		Use:   "nats DIR",
		Short: "Make the keys and certificates of the message system: servers, roles, tenants",
		Long: `Make a folder with what a production network's NATS servers and their users need: an authority and
certificates for TLS on both sides, a key for each role, for the callout service and for each --tenant. What exists is
never overwritten, so the same call adds what is missing; delete a certificate to have it made again.

Each user has a folder of its own: hand it over, or mount it, as a whole, and set NATS_CONTEXT to its nats.json.
"cocoon topology conf --layout production --keys DIR" prints the servers' configuration.`,
		Example: `  cocoon keys nats keys --url tls://nats.example:4222 --server-name nats.example
  cocoon keys nats keys --url tls://nats.example:4222 --server-name nats.example --tenant tabcdefghijklmnop`,
		Args: cobra.ExactArgs(1),
	}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&o.URL, "url", "", "where clients reach the servers (required)")
	cmd.Flags().StringSliceVar(&o.Hosts, "server-name", nil, "names and addresses of the servers, for their certificate (required)")
	cmd.Flags().StringArrayVar(&tenants, "tenant", nil, "id of a tenant that gets a folder too (may be repeated)")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		ids := make([]schemas.TenantID, len(tenants))
		for i, s := range tenants {
			var err error
			if ids[i], err = schemas.ParseTenantID(s); err != nil {
				return &cli.UsageError{Err: err}
			}
		}
		keys := access.OpenKeys(args[0])
		if err := keys.Make(o); err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := keys.AddTenant(id); err != nil {
				return err
			}
		}
		n, err := keys.Network()
		if err != nil {
			return err
		}
		var all []natsKey
		for _, u := range n.Users() {
			all = append(all, natsKey{User: u.Name, Public: u.Key, Context: filepath.Join(args[0], u.Name, access.FileContext)})
		}
		for _, t := range n.Tenants {
			all = append(all, natsKey{User: string(t), Context: filepath.Join(args[0], string(t), access.FileContext)})
		}
		return cli.List(out, all, func(all []natsKey) cli.Table {
			t := cli.Table{Header: []string{"USER", "NATS_CONTEXT", "PUBLIC KEY"}}
			for _, k := range all {
				t.Rows = append(t.Rows, []string{k.User, k.Context, k.Public})
			}
			return t
		})
	}
	return cmd
}
