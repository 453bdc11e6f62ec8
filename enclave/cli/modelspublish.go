//go:build !worker

package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// publishFlags are the flags of "models publish".
type publishFlags struct {
	NetworkConfig
	entry     modelEntry
	put       bool
	locations []string
}

// ModelsPublish is the verb "models publish".
func ModelsPublish() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish PACKAGE DRAFT",
		Short: "Say where a sealed package lies and what the model costs",
		Long: `Bring a package of "cocoon models seal" to where workers fetch it, and put the model into the draft of a catalogue: its
id with the root of the weights, its price, and its locations. PACKAGE is the package's file. --put stores it in the
network's own object store, after a broker has proven that it holds the key which the package is sealed to. --location,
repeated, names places where you have put the same file: https://…, http://…, file://… or object:NAME; each is looked at.

Whoever keeps the package, the catalogue or the object store sees ciphertext. The draft is that of "cocoon catalogue init",
or of "cocoon catalogue show -o json" for the catalogue in force; the root key holders sign and publish it, and admit the
model with "cocoon policy add model".`,
		Args: cobra.ExactArgs(2),
	}
	networkFlags(cmd)
	var f publishFlags
	f.entry.flags(cmd)
	cmd.Flags().BoolVar(&f.put, "put", false, "put the package into the network's object store")
	cmd.Flags().StringSliceVar(&f.locations, "location", nil, "where the package lies already")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !f.put && len(f.locations) == 0 {
			return cli.Usagef("say where workers find the package: --put or --location")
		}
		if err := f.entry.check(); err != nil {
			return err
		}
		f.NetworkConfig = networkConfig(cmd)
		return f.run(cmd, args[0], args[1], out)
	}
	return cmd
}

// run stores the package, looks at its other places, and then changes the draft. Commit point: the draft; everything before
// can be repeated.
func (f *publishFlags) run(cmd *cobra.Command, path, draft string, out *cli.Output) error {
	n := catalogueNoun(nil)
	if _, signed, err := n.read(cmd, draft); err != nil {
		return err
	} else if signed != nil {
		return cli.Usagef("%s is signed: a model is put into a draft", draft)
	}
	file, err := os.Open(path)
	if err != nil {
		return schemas.Errorf(schemas.KindNotFound, "%w", err)
	}
	defer file.Close()
	p, err := readPackage(file)
	if err != nil {
		return err
	}
	if f.entry.model.Locations, err = f.place(cmd.Context(), p, file, logger(cmd)); err != nil {
		return err
	}
	f.entry.model.Sealed = true
	if err := f.entry.put(n, cmd, draft, p.Model()); err != nil {
		return err
	}
	return cli.One(out, f.entry.model, modelLines)
}

// readPackage reads the head of a package in a file and checks that the file is all of it.
func readPackage(file *os.File) (*weights.Package, error) {
	p, err := weights.Read(file)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, schemas.Errorf(schemas.KindUnavailable, "%w", err)
	}
	if size := uint64(info.Size()); size != p.Size() {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: "package", Message: fmt.Sprintf("has %d bytes and says it has %d", size, p.Size())}
	}
	return p, nil
}

// place stores the package if asked to and looks at the places where it is said to lie. It returns all locations.
func (f *publishFlags) place(ctx context.Context, p *weights.Package, file *os.File, log *slog.Logger) (all []string, err error) {
	sources := weights.DefaultSources()
	if f.put || f.Trust != "" {
		n, err := f.open(ctx, "cocoon models publish", log)
		if err != nil {
			return nil, err
		}
		defer n.close(ctx, log)
		err = n.verify(ctx, log, func(ctx context.Context, v *attest.Verifier) error { return openable(ctx, n.bus, v, p) })
		if err != nil {
			return nil, err
		}
		store := n.bus.Store(streams.StoreWeights)
		sources = Sources(store)
		if f.put {
			location, err := putPackage(ctx, store, p.Model(), file)
			if err != nil {
				return nil, err
			}
			all = append(all, location)
		}
	}
	for _, location := range f.locations {
		if err := holds(ctx, sources, location, p); err != nil {
			return nil, fmt.Errorf("%s: %w", location, err)
		}
		all = append(all, location)
	}
	return all, nil
}

// openable checks that an attested broker of the network has the key that a package is sealed to.
func openable(ctx context.Context, bus *streams.Bus, v *attest.Verifier, p *weights.Package) error {
	key, err := WeightsKey(ctx, bus, v)
	if err == nil && key.Key != p.Key() {
		err = &schemas.Error{Kind: schemas.KindKeyLost, Field: "package", Message: fmt.Sprintf("is sealed to key %s, the brokers of this network have %s: seal again", p.Key(), key.Key)}
	}
	return err
}

// holds checks that a location has this very package.
func holds(ctx context.Context, sources weights.Sources, location string, p *weights.Package) error {
	r, err := sources.Open(ctx, []string{location})
	if err != nil {
		return err
	}
	defer r.Close()
	there, err := weights.Read(r)
	if err == nil && there.ID() != p.ID() {
		err = &schemas.Error{Kind: schemas.KindConflict, Field: "location", Message: "has another package"}
	}
	return err
}

// putPackage puts a package into the object store under the model's slug and returns its location.
func putPackage(ctx context.Context, store *streams.Store, model schemas.ModelID, file io.ReadSeeker) (string, error) {
	ref, err := schemas.ParseModelID(string(model))
	if err != nil {
		return "", err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", schemas.Errorf(schemas.KindUnavailable, "%w", err)
	}
	_, err = store.Put(ctx, ref.Slug(), file)
	return objectScheme + ":" + ref.Slug(), err
}
