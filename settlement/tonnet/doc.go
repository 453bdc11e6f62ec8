// Package tonnet is a TON network inside one process, for tests, demonstrations and development. It runs the code of
// real wallets and contracts in a TVM at mainnet's prices, makes blocks and states with Merkle proofs and a
// validator's signatures, and answers as a liteserver does, over ADNL or in process. Ordinary clients and wallets of
// tonutils-go work with it unchanged, under the strictest proof policy.
//
// Start with [Open], which makes a new network or, given a directory, goes on with the one kept there:
//
//	net, err := tonnet.Open(tonnet.Config{})          // in memory
//	srv, err := net.NewServer()
//	err = srv.Listen("127.0.0.1:0")                   // or use srv itself as a ton.LiteClient
//	cfg := net.GlobalConfig(srv)                      // what clients connect and trust by
//	err = net.Faucet(addr, tlb.MustFromTON("100"))
//	_, err = net.Produce()                            // one block, or net.Run(ctx) for blocks on demand
//
// Things to know:
//
//   - Time belongs to the caller: Config.Now is the chain's clock, and nothing moves between calls of [Net.Produce]
//     unless [Net.Run] does it.
//   - A message from one account to another arrives in the block after the one that sent it, as it does between
//     shards. A payer that takes "the wallet accepted it" for "it was paid" fails here. Config.SameBlock turns that off.
//   - A block is on disk before anybody can see it. After a kill nothing that a client has seen is missing; with
//     Config.Sync that holds for loss of power too. The state after a block is always the state before it with the
//     block's own Merkle update applied, when the block is made and when it is read again.
//   - Servers misbehave when told to: see [Faults]. Several servers can serve one network.
//
// It refuses external messages above 64 KiB or 512 levels, messages that the receiving contract does not accept (with
// the exit code, as a real liteserver does), and a directory that another process has open.
//
// What a real network has and this one has not: more than one shard and one validator, catchain, message queues and
// value flow in the blocks (both are written as empty), elections, libraries, and states older than [KeepStates]
// blocks. The network has its own [GlobalID].
package tonnet
