//go:build !worker

package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// The data folder of a network on one machine. Every secret of the network lies in it, so it belongs to its owner only.
//
//	VERSION          "cocoon 1": which form the folder has
//	LOCK             held by the process that runs the network
//	roots.key        seed of the key that signs policy and catalogue
//	treasury.key     seed of the wallet that tenants pay into and that pays worker owners
//	owner-<n>.key    seed of the wallet of the owner of worker n
//	tenant-<n>.json  a tenant's identity
//	trust.json       what everybody in this network believes: root keys and environment
//	chain.json       how to reach the embedded chain while the network runs, and what to believe of it
//	sim/             the secret of the simulated hardware
//	nats/            the message system's streams
//	ton/             the embedded chain
//	broker/          the sealed epoch keys
//	gateway/         files, batches and the record of jobs of the gateway
//	ledger.db        the books
const dataVersion = "cocoon 1\n"

// dataDir is an open, locked data folder.
type dataDir struct {
	path string
	lock *os.File
}

// openData opens or makes a data folder and locks it. The failures are one clear line each: not writable is KindDenied,
// in use KindConflict, another or damaged form KindCorrupt.
func openData(path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInvalid, "data folder: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, denied(path, err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, denied(path, err)
	}
	d := &dataDir{path: path, lock: lock}
	if err := lockFile(lock); err != nil {
		lock.Close()
		return nil, &schemas.Error{Kind: schemas.KindConflict, Message: fmt.Sprintf("data folder %s is used by another process", path), Err: err}
	}
	if err := d.checkVersion(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// denied says that a folder cannot be used, and why.
func denied(path string, err error) error {
	return &schemas.Error{Kind: schemas.KindDenied, Message: fmt.Sprintf("data folder %s: %v", path, errors.Unwrap(err)), Err: err}
}

// checkVersion writes the version into an empty folder and refuses a folder of another form.
func (d *dataDir) checkVersion() error {
	have, err := os.ReadFile(d.sub("VERSION"))
	if err == nil {
		if string(have) != dataVersion {
			return &schemas.Error{Kind: schemas.KindCorrupt, Message: fmt.Sprintf("%s says %.40q, this program reads %q; choose another --data", d.sub("VERSION"), have, dataVersion)}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return denied(d.path, err)
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return denied(d.path, err)
	}
	for _, e := range entries {
		if e.Name() != "LOCK" {
			return &schemas.Error{Kind: schemas.KindCorrupt, Message: fmt.Sprintf("%s holds %q and no VERSION file: it is not a data folder, or a damaged one; choose another --data", d.path, e.Name())}
		}
	}
	return writeFile(d.sub("VERSION"), []byte(dataVersion))
}

// sub is a path inside the folder.
func (d *dataDir) sub(name string) string { return filepath.Join(d.path, name) }

// close unlocks the folder.
func (d *dataDir) close() { d.lock.Close() }

// key reads the Ed25519 key in a file, or makes one and keeps it. The file is whole before it has its name, so after a
// crash there is either no key or the one that all later starts use.
func (d *dataDir) key(name string) (ed25519.PrivateKey, error) {
	path := d.sub(name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed)
		text = []byte(hex.EncodeToString(seed) + "\n")
		err = writeFile(path, text)
	}
	if err != nil {
		return nil, denied(path, err)
	}
	seed, err := hex.DecodeString(string(bytes.TrimSuffix(text, []byte("\n"))))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Message: path + " is not a key: 64 hex digits are expected; restore it from a copy"}
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// tenant reads a tenant's identity, or makes one and keeps it.
func (d *dataDir) tenant(name string) (*enclave.Tenant, error) {
	path := d.sub("tenant-" + name + ".json")
	text, err := os.ReadFile(path)
	if err == nil {
		t, err := enclave.ParseTenant(text)
		if err != nil {
			return nil, &schemas.Error{Kind: schemas.KindCorrupt, Message: path + " is not a tenant's identity; restore it from a copy", Err: err}
		}
		return t, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, denied(path, err)
	}
	t, err := enclave.NewTenant()
	if err != nil {
		return nil, err
	}
	return t, writeFile(path, t.Marshal())
}

// writeFile puts a file in place at once and durably: until the rename nothing is there, after it all is.
func writeFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
