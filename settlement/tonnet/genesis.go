package tonnet

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
)

// Names of the files in a network's directory.
const (
	genesisFile  = "genesis.json"
	blocksFile   = "blocks"
	snapshotFile = "state"
	lockFile     = "lock"
)

// genesis is what a network is made from. It is written once, before the first block, and never changes.
type genesis struct {
	// Version is the layout of the directory.
	Version int `json:"version"`
	// Seed is the secret that every key of the network is derived from.
	Seed []byte `json:"seed"`
	// Params is the blockchain config without the validator, as a bag of cells.
	Params []byte `json:"params"`
}

const genesisVersion = 1

// seedSize is the length of a seed in bytes.
const seedSize = 32

// newGenesis makes the genesis that a config asks for, with a random seed unless it gives one.
func newGenesis(cfg Config) genesis {
	seed := make([]byte, seedSize)
	rand.Read(seed)
	if cfg.Seed != nil {
		sum := sha256.Sum256(cfg.Seed)
		seed = sum[:]
	}
	params := cfg.Params
	if params == nil {
		params = DevConfig()
	}
	return genesis{Version: genesisVersion, Seed: seed, Params: params.ToBOC()}
}

// loadGenesis reads the genesis kept in dir, or makes one and keeps it there.
func loadGenesis(cfg Config) (genesis, error) {
	path := filepath.Join(cfg.Dir, genesisFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		g := newGenesis(cfg)
		if b, err = json.MarshalIndent(g, "", "  "); err != nil {
			return genesis{}, fmt.Errorf("tonnet: genesis: %w", err)
		}
		// Commit point: the network exists once its genesis has its name. A crash before leaves nothing of it.
		return g, writeFile(path, append(b, '\n'))
	}
	if err != nil {
		return genesis{}, fmt.Errorf("tonnet: genesis: %w", err)
	}
	var g genesis
	if err = json.Unmarshal(b, &g); err != nil || len(g.Seed) != seedSize {
		return genesis{}, schemas.Errorf(schemas.KindCorrupt, "tonnet: %s does not parse", genesisFile)
	}
	if g.Version != genesisVersion {
		return genesis{}, schemas.Errorf(schemas.KindUnsupported, "tonnet: %s has version %d, want %d", genesisFile, g.Version, genesisVersion)
	}
	return g, nil
}

// key derives one of the network's keys.
func (g genesis) key(purpose string, number uint32) ed25519.PrivateKey {
	sum := sha256.Sum256(fmt.Appendf(append([]byte(nil), g.Seed...), "tonnet %s %d", purpose, number))
	return ed25519.NewKeyFromSeed(sum[:])
}

// params is the blockchain config with the validator in it.
func (g genesis) params(validator ed25519.PublicKey) (*cell.Cell, error) {
	c, err := cell.FromBOC(g.Params)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindCorrupt, "tonnet: blockchain config does not parse: %w", err)
	}
	return withValidator(c, validator)
}

// writeFile replaces a file as a whole and makes that durable.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("tonnet: %w", err)
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("tonnet: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
