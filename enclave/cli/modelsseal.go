//go:build !worker

package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// sealFlags are the flags of "models seal".
type sealFlags struct {
	NetworkConfig
	name, revision, out string
	put                 bool
}

// ModelsSeal is the verb "models seal".
func ModelsSeal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "seal DIR",
		Short: "Seal a folder of weights for the brokers of a network",
		Long: `Seal a folder of weights into one package that only workers can open which the network's policy admits for the
model. The package may lie anywhere: -f FILE writes it to a file for any web server, --put stores it in the network's
own object store. The model's id, which is printed, contains the root of the weights: put it into the catalogue with
"cocoon models publish" and into the policy with "cocoon policy add model".

The operators of the network never see the weights; the brokers' evidence is verified before anything is sealed to them.`,
		Args: cobra.ExactArgs(1),
	}
	networkFlags(cmd)
	var f sealFlags
	cmd.Flags().StringVar(&f.name, "name", "", "name of the model (default: the folder's)")
	cmd.Flags().StringVar(&f.revision, "revision", "1", "revision of the model")
	cmd.Flags().StringVarP(&f.out, "file", "f", "", "write the package to this file")
	cmd.Flags().BoolVar(&f.put, "put", false, "put the package into the network's object store")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (f.out == "") == !f.put {
			return cli.Usagef("say where the package goes: -f FILE or --put")
		}
		f.NetworkConfig = networkConfig(cmd)
		if f.name == "" {
			f.name = filepath.Base(filepath.Clean(args[0]))
		}
		sealed, err := f.run(cmd.Context(), args[0], logger(cmd))
		if err != nil {
			return err
		}
		return cli.One(out, sealed, sealedView)
	}
	return cmd
}

// sealedModel is what "models seal" prints.
type sealedModel struct {
	weights.Sealed
	// Location is where the package lies, as a catalogue names it.
	Location string `json:"location"`
}

// sealedView is the table.
func sealedView(s sealedModel) [][2]string {
	return [][2]string{
		{"model", string(s.Model)},
		{"root", s.Root.String()},
		{"files", fmt.Sprint(s.Files)},
		{"bytes", fmt.Sprint(s.Bytes)},
		{"package bytes", fmt.Sprint(s.Package)},
		{"location", s.Location},
		{"sealed to", string(s.Key)},
	}
}

// run verifies the brokers, then seals.
func (f *sealFlags) run(ctx context.Context, dir string, log *slog.Logger) (s sealedModel, err error) {
	n, err := f.open(ctx, "cocoon models seal", log)
	if err != nil {
		return s, err
	}
	defer n.close(ctx, log)
	err = n.verify(ctx, log, func(ctx context.Context, v *attest.Verifier) error {
		key, err := WeightsKey(ctx, n.bus, v)
		if err != nil {
			return err
		}
		if f.put {
			s, err = f.toStore(ctx, n.bus, dir, key)
		} else {
			s, err = f.toFile(ctx, dir, key)
		}
		return err
	})
	return s, err
}

// toFile writes the package to a new file, which is there only when it is whole.
func (f *sealFlags) toFile(ctx context.Context, dir string, key schemas.WeightsKey) (sealedModel, error) {
	path, err := filepath.Abs(f.out)
	if err != nil {
		return sealedModel{}, schemas.Errorf(schemas.KindInvalid, "%w", err)
	}
	out, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return sealedModel{}, schemas.Errorf(schemas.KindDenied, "%w", err)
	}
	defer os.Remove(out.Name()) // does nothing once it has its name
	sealed, err := weights.Seal(ctx, out, os.DirFS(dir), f.name, f.revision, key)
	if err == nil {
		err = out.Sync()
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	return sealedModel{sealed, "file://" + path}, err
}

// toStore puts the package into the network's object store under the model's slug.
func (f *sealFlags) toStore(ctx context.Context, bus *streams.Bus, dir string, key schemas.WeightsKey) (sealedModel, error) {
	spool, err := os.CreateTemp("", "cocoon-seal-*")
	if err != nil {
		return sealedModel{}, schemas.Errorf(schemas.KindDenied, "%w", err)
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	sealed, err := weights.Seal(ctx, spool, os.DirFS(dir), f.name, f.revision, key)
	if err != nil {
		return sealedModel{}, err
	}
	location, err := putPackage(ctx, bus.Store(streams.StoreWeights), sealed.Model, spool)
	return sealedModel{sealed, location}, err
}
