package cli

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// keyInfo is what `cocoon keys` says about a key file. It never holds a secret.
type keyInfo struct {
	File string `json:"file"`
	// Kind is "tenant" or "root".
	Kind   string           `json:"kind"`
	Tenant schemas.TenantID `json:"tenant,omitempty"`
	// Public is the Ed25519 public key in base64.
	Public string        `json:"public_key"`
	Key    schemas.KeyID `json:"kid"`
}

// Keys is the noun "keys".
func Keys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make and show the keys of tenants and operators",
		Long: `Make and show key files. A key file is made once and never overwritten; what is printed is public.

A tenant's identity file is the account: who has it can spend the tenant's money and read its answers, and without it
no answer can be opened. Root keys sign policies and catalogues; k of n of them must sign. The keys of the message
system are for logging in and for TLS.`,
	}
	cmd.AddCommand(keysTenant(), keysRoot(), keysTrust(), keysNATS(), keysShow())
	return cmd
}

// keysTenant is "keys tenant".
func keysTenant() *cobra.Command {
	cmd := &cobra.Command{Use: "tenant FILE", Short: "Make a tenant's identity file", Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		t, err := enclave.NewTenant()
		if err != nil {
			return err
		}
		if err := writeNew(args[0], t.Marshal()); err != nil {
			return err
		}
		return cli.One(out, tenantInfo(args[0], t), keyView)
	}
	return cmd
}

// keysRoot is "keys root".
func keysRoot() *cobra.Command {
	cmd := &cobra.Command{Use: "root FILE", Short: "Make a root key that signs policies and catalogues", Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed)
		if err := writeNew(args[0], []byte(hex.EncodeToString(seed)+"\n")); err != nil {
			return err
		}
		return cli.One(out, rootInfo(args[0], ed25519.NewKeyFromSeed(seed)), keyView)
	}
	return cmd
}

// keysTrust is "keys trust".
func keysTrust() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust KEY...",
		Short: "Print a trust file: the root keys that are believed and the environment",
		Long:  "Print a trust file for verbs that take --trust. Each KEY is a public key in base64 or a root key file.",
		Args:  cobra.RangeArgs(1, schemas.MaxRootKeys),
	}
	k := cmd.Flags().Int("k", 1, "how many of the keys must have signed")
	environment := cmd.Flags().String("environment", string(schemas.Production), "production or simulated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var keys []ed25519.PublicKey
		for _, arg := range args {
			key, err := publicKey(arg)
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		roots, err := schemas.NewRootKeys(*k, keys...)
		if err != nil {
			return cli.Usagef("%w", err)
		}
		trust := schemas.Trust{Roots: roots, Environment: schemas.Environment(*environment)}
		if err := trust.Check(); err != nil {
			return cli.Usagef("%w", err)
		}
		b, err := schemas.EncodeJSON(trust)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
		return err
	}
	return cmd
}

// keysShow is "keys show".
func keysShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show FILE...", Short: "Show the public part of key files", Args: cobra.MinimumNArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var all []keyInfo
		for _, path := range args {
			info, err := describeKey(path)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			all = append(all, info)
		}
		return cli.List(out, all, func(all []keyInfo) cli.Table {
			t := cli.Table{Header: []string{"FILE", "KIND", "TENANT", "KEY ID", "PUBLIC KEY"}}
			for _, i := range all {
				t.Rows = append(t.Rows, []string{i.File, i.Kind, string(i.Tenant), string(i.Key), i.Public})
			}
			return t
		})
	}
	return cmd
}

// describeKey recognises a key file.
func describeKey(path string) (keyInfo, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return keyInfo{}, schemas.Errorf(schemas.KindNotFound, "%w", err)
	}
	if strings.HasPrefix(strings.TrimSpace(string(b)), "{") {
		t, err := enclave.ParseTenant(b)
		if err != nil {
			return keyInfo{}, err
		}
		return tenantInfo(path, t), nil
	}
	key, err := parseSeed(b)
	if err != nil {
		return keyInfo{}, err
	}
	return rootInfo(path, key), nil
}

// parseSeed reads a root key file: the seed of an Ed25519 key in hex.
func parseSeed(b []byte) (ed25519.PrivateKey, error) {
	seed, err := hex.DecodeString(strings.TrimSuffix(string(b), "\n"))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, schemas.FieldError("key", "is neither an identity file nor a root key of 64 hex digits")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// publicKey reads a public key given as base64 or as a root key file.
func publicKey(arg string) (ed25519.PublicKey, error) {
	if key, err := base64.StdEncoding.DecodeString(arg); err == nil && len(key) == ed25519.PublicKeySize {
		return key, nil
	}
	b, err := os.ReadFile(arg)
	if err != nil {
		return nil, cli.Usagef("%s is neither a public key in base64 nor a file", arg)
	}
	key, err := parseSeed(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", arg, err)
	}
	return key.Public().(ed25519.PublicKey), nil
}

// tenantInfo describes an identity.
func tenantInfo(path string, t *enclave.Tenant) keyInfo {
	return keyInfo{File: path, Kind: "tenant", Tenant: t.ID(), Public: base64.StdEncoding.EncodeToString(t.Public()), Key: schemas.KeyIDOf(t.Public())}
}

// rootInfo describes a root key.
func rootInfo(path string, key ed25519.PrivateKey) keyInfo {
	public := key.Public().(ed25519.PublicKey)
	return keyInfo{File: path, Kind: "root", Public: base64.StdEncoding.EncodeToString(public), Key: schemas.KeyIDOf(public)}
}

// keyView is the table of one key.
func keyView(i keyInfo) [][2]string {
	rows := [][2]string{{"file", i.File}, {"kind", i.Kind}}
	if i.Tenant != "" {
		rows = append(rows, [2]string{"tenant", string(i.Tenant)})
	}
	return append(rows, [2]string{"kid", string(i.Key)}, [2]string{"public key", i.Public})
}

// writeNew writes a private file that does not exist yet. Commit point: the close; a file that could not be written whole
// is removed.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &schemas.Error{Kind: schemas.KindConflict, Field: path, Message: "exists; key files are never overwritten"}
	}
	if err != nil {
		return schemas.Errorf(schemas.KindDenied, "%w", err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
		return schemas.Errorf(schemas.KindUnavailable, "%w", err)
	}
	return nil
}
