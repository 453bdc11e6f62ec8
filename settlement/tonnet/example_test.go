package tonnet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"

	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

// A network in memory, an ordinary wallet over ADNL under the strictest proof policy, and a payment.
func Example() {
	net, err := tonnet.Open(tonnet.Config{BlockTime: 20 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	defer net.Close()
	srv := net.NewServer()
	if err = srv.Listen("127.0.0.1:0"); err != nil {
		panic(err)
	}
	defer srv.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go net.Run(ctx)

	var global liteclient.GlobalConfig
	if err = json.Unmarshal(net.GlobalConfig(srv), &global); err != nil {
		panic(err)
	}
	pool := liteclient.NewConnectionPool()
	defer pool.Stop()
	if err = pool.AddConnectionsFromConfig(ctx, &global); err != nil {
		panic(err)
	}
	api := ton.NewAPIClient(pool, ton.ProofCheckPolicySecure)
	api.SetTrustedBlockFromConfig(&global)

	alice, err := wallet.FromSeedWithOptions(api, wallet.NewSeed(), wallet.V4R2)
	if err != nil {
		panic(err)
	}
	bob, err := wallet.FromSeedWithOptions(api, wallet.NewSeed(), wallet.V4R2)
	if err != nil {
		panic(err)
	}
	if err = net.Faucet(alice.WalletAddress(), tlb.MustFromTON("10")); err != nil {
		panic(err)
	}
	if err = net.ProduceAll(1); err != nil {
		panic(err)
	}
	if err = alice.TransferNoBounce(ctx, bob.WalletAddress(), tlb.MustFromTON("2.5"), "hello", true); err != nil {
		panic(err)
	}
	if err = net.ProduceAll(2); err != nil {
		panic(err)
	}
	balance, err := net.Balance(bob.WalletAddress())
	fmt.Println(balance, err)
	// Output: 2.5 <nil>
}

// A chain whose time belongs to the test: a day passes in one block.
func ExampleConfig_now() {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	net, err := tonnet.Open(tonnet.Config{Now: func() time.Time { return now }})
	if err != nil {
		panic(err)
	}
	defer net.Close()
	now = now.Add(24 * time.Hour)
	block, err := net.Produce()
	fmt.Println(block.Seqno, block.Time.Format(time.DateTime), err)
	// Output: 2 2027-01-02 00:00:00 <nil>
}

// A liteserver that loses every message and says that it passed them on.
func ExampleFaults() {
	net, err := tonnet.Open(tonnet.Config{})
	if err != nil {
		panic(err)
	}
	defer net.Close()
	srv := net.NewServer()
	srv.SetFaults(tonnet.Faults{Submit: func([]byte) tonnet.Fate { return tonnet.Lose }})
	api := ton.NewAPIClient(srv, ton.ProofCheckPolicySecure)
	api.SetTrustedBlock(net.Genesis())
	fmt.Println(api.SendExternalMessage(context.Background(), &tlb.ExternalMessage{DstAddr: someAddress()}))
	// Output: <nil>
}

// someAddress is some address.
func someAddress() *address.Address { return address.NewAddress(0, 0, make([]byte, 32)) }
