package tonnet

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/xssnick/tonutils-go/liteclient"
)

// GlobalConfig is what a client needs to join: the first block, to trust, and the servers that listen. It has the form of
// the global configs of mainnet and testnet.
func (n *Net) GlobalConfig(servers ...*Server) []byte {
	genesis := n.Genesis()
	zero := zeroState()
	cfg := liteclient.GlobalConfig{
		Type:        "config.global",
		DHT:         liteclient.DHTConfig{Type: "dht.config.global", K: 6, A: 3, StaticNodes: liteclient.DHTNodes{Type: "dht.nodes", Nodes: []liteclient.DHTNode{}}},
		Liteservers: []liteclient.LiteserverConfig{},
		Validator: liteclient.ValidatorConfig{
			Type:      "validator.config.global",
			ZeroState: liteclient.ConfigBlock{Workchain: masterchain, Shard: wholeShard, RootHash: zero.RootHash, FileHash: zero.FileHash},
			InitBlock: liteclient.ConfigBlock(*genesis),
			Hardforks: []liteclient.ConfigBlock{},
		},
	}
	for _, s := range servers {
		addr := s.Addr()
		if !addr.IsValid() {
			continue
		}
		ip := addr.Addr().As4()
		key := base64.StdEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey))
		cfg.Liteservers = append(cfg.Liteservers, liteclient.LiteserverConfig{
			IP: int64(int32(binary.BigEndian.Uint32(ip[:]))), Port: int(addr.Port()), ID: liteclient.ServerID{Type: "pub.ed25519", Key: key},
		})
	}
	b, err := json.MarshalIndent(cfg, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("tonnet: global config: %v", err)) // a struct of strings and numbers always encodes
	}
	return append(b, '\n')
}

// WriteGlobalConfig writes GlobalConfig to a file, which it replaces as a whole.
func (n *Net) WriteGlobalConfig(path string, servers ...*Server) error {
	return writeFile(path, n.GlobalConfig(servers...))
}
