package ton_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/chaintest"
	"github.com/cocoon-network/cocoon/settlement/ton"
	"github.com/cocoon-network/cocoon/settlement/tonnet"
)

// writeCases makes TestSandbox write its cases, without results, for tonnet/xcheck/xcheck.js to fill in.
var writeCases = flag.Bool("write-cases", false, "write testdata/sandbox.json without results")

const sandboxFile = "testdata/sandbox.json"

// sandbox is the content of testdata/sandbox.json: our messages, and what the TVM of the reference node, as it is in
// @ton/sandbox, made of them.
type sandbox struct {
	// By is the program that the results are from.
	By string `json:"by"`
	// Config is the blockchain config as a bag of cells.
	Config []byte `json:"config"`
	// Now is the time of every block.
	Now   int64         `json:"now"`
	Cases []sandboxCase `json:"cases"`
	// Voucher is the body that @ton/core builds from the fields of Fields.
	Voucher voucherCase `json:"voucher"`
}

// sandboxCase is a wallet that gets money from nowhere, and then messages.
type sandboxCase struct {
	Name   string `json:"name"`
	Wallet string `json:"wallet"`
	// Fund is the money in nanoTON.
	Fund string `json:"fund"`
	// Messages are external messages, as bags of cells.
	Messages [][]byte `json:"messages"`
	// Watch are the addresses whose balances matter.
	Watch []string `json:"watch"`
	// Balances are those after all messages, in nanoTON, in the order of Watch with the wallet last. From here on: results.
	Balances []string `json:"balances"`
	// Refused says which messages no contract accepted.
	Refused []bool `json:"refused"`
}

// voucherCase is one voucher by another implementation.
type voucherCase struct {
	Worker    schemas.Owner `json:"worker"`
	ExcessTo  schemas.Owner `json:"excess_to"`
	Tokens    uint64        `json:"tokens"`
	QueryID   uint64        `json:"query_id"`
	Signature []byte        `json:"signature"`
	// Signed is the hash that the signature is over, Body the hash of the whole; results.
	Signed string `json:"signed"`
	Body   string `json:"body"`
}

// sandboxCases builds the cases as the product builds its messages today.
func sandboxCases(t *testing.T) sandbox {
	t.Helper()
	chain := chaintest.New(t, chaintest.Options{}).Connect(t)
	s := sandbox{Config: tonnet.DevConfig().ToBOC(), Now: chaintest.Start.Unix()}
	at := ton.BlockTime{Time: chaintest.Start}
	batch := func(q ton.QueryID, n int, note []byte) ton.Batch {
		b := ton.Batch{QueryID: q, CreatedAt: ton.CreatedAt(at), Deploy: q == 1, Note: note}
		for i := range n {
			b.Transfers = append(b.Transfers, ton.Transfer{
				To: owner(int(q)*1000 + i), Amount: schemas.NanoTON(50_000_000 + 1000*i),
				Comment: fmt.Sprintf("c:%d", i), Bounce: i%10 == 3,
			})
		}
		return b
	}
	note := bytes.Repeat([]byte{0xC0}, 32)
	for i, x := range []struct {
		name    string
		fund    schemas.NanoTON
		batches []ton.Batch
		again   bool // send the last message once more
	}{
		{"one transfer", schemas.TON, []ton.Batch{batch(1, 1, nil)}, false},
		{"one transfer with a note", schemas.TON, []ton.Batch{batch(1, 1, note)}, false},
		{"two transfers", schemas.TON, []ton.Batch{batch(1, 2, note)}, true},
		{"100 transfers", 10 * schemas.TON, []ton.Batch{batch(1, 100, nil)}, false},
		{"full batch with a note", 300 * schemas.TON, []ton.Batch{batch(1, ton.MaxTransfers, note)}, true},
		{"two batches", 50 * schemas.TON, []ton.Batch{batch(1, 20, note), batch(2, 30, nil)}, false},
		{"exact funds", batch(1, 40, note).Cost(), []ton.Batch{batch(1, 40, note)}, false},
		{"too poor for the batch", schemas.TON, []ton.Batch{batch(1, 40, note)}, true},
		{"too poor for one", schemas.TON / 20, []ton.Batch{batch(1, 1, nil)}, false},
	} {
		treasury, err := chain.Treasury(key(100+i), ton.TreasuryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c := sandboxCase{Name: x.name, Wallet: string(treasury.Address()), Fund: strconv.FormatInt(int64(x.fund), 10)}
		for _, b := range x.batches {
			signed, err := treasury.Sign(b)
			if err != nil {
				t.Fatal(err)
			}
			c.Messages = append(c.Messages, signed.BoC)
			for _, y := range b.Transfers {
				c.Watch = append(c.Watch, string(y.To))
			}
		}
		if x.again {
			c.Messages = append(c.Messages, c.Messages[len(c.Messages)-1])
		}
		c.Watch = append(c.Watch, c.Wallet)
		s.Cases = append(s.Cases, c)
	}
	v := ton.Voucher{Worker: owner(1), Tokens: 1 << 40, QueryID: 7}
	signed, err := ton.SignVoucher(key(1), v)
	if err != nil {
		t.Fatal(err)
	}
	s.Voucher = voucherCase{Worker: v.Worker, ExcessTo: owner(2), Tokens: v.Tokens, QueryID: v.QueryID, Signature: signed.Signature[:]}
	return s
}

// run plays a case on the devnet.
func (c sandboxCase) run(t *testing.T, s sandbox) (balances []string, refused []bool) {
	t.Helper()
	n, err := tonnet.Open(tonnet.Config{Now: func() time.Time { return time.Unix(s.Now, 0) }, SameBlock: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	fund, err := strconv.ParseUint(c.Fund, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err = n.Faucet(address.MustParseRawAddr(c.Wallet), tlb.FromNanoTONU(fund)); err != nil {
		t.Fatal(err)
	}
	produce := func() {
		if _, err := n.Produce(); err != nil {
			t.Fatal(err)
		}
	}
	produce()
	srv := n.NewServer()
	for _, m := range c.Messages {
		var resp tl.Serializable
		if err = srv.QueryLiteserver(t.Context(), tonapi.SendMessage{Body: m}, &resp); err != nil {
			t.Fatal(err)
		}
		_, no := resp.(tonapi.LSError)
		refused = append(refused, no)
		produce()
	}
	for _, a := range c.Watch {
		b, err := n.Balance(address.MustParseRawAddr(a))
		if err != nil {
			t.Fatal(err)
		}
		balances = append(balances, b.Nano().String())
	}
	return balances, refused
}

// TestSandbox compares the devnet with the TVM of the reference node, to the nanoTON: every balance after every kind of
// batch that the product makes. The results are data; xcheck.js makes them anew.
func TestSandbox(t *testing.T) {
	t.Parallel()
	fresh := sandboxCases(t)
	if *writeCases {
		b, err := json.MarshalIndent(fresh, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err = os.WriteFile(sandboxFile, b, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("wrote the cases, without results")
	}
	raw, err := os.ReadFile(sandboxFile)
	if err != nil {
		t.Fatal(err)
	}
	var kept sandbox
	if err = json.Unmarshal(raw, &kept); err != nil {
		t.Fatal(err)
	}
	if kept.By == "" || len(kept.Cases) != len(fresh.Cases) || !bytes.Equal(kept.Config, fresh.Config) {
		t.Fatal("testdata/sandbox.json is not of these cases: make it anew, see tonnet/xcheck")
	}
	for i, c := range kept.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if !slices.EqualFunc(c.Messages, fresh.Cases[i].Messages, bytes.Equal) || c.Wallet != fresh.Cases[i].Wallet || !slices.Equal(c.Watch, fresh.Cases[i].Watch) {
				t.Fatal("the product's messages have changed: make testdata/sandbox.json anew, see tonnet/xcheck")
			}
			balances, refused := c.run(t, kept)
			if !slices.Equal(refused, c.Refused) {
				t.Errorf("refused %v, want %v", refused, c.Refused)
			}
			for j, want := range c.Balances {
				if balances[j] != want {
					t.Errorf("%s has %s, want %s", c.Watch[j], balances[j], want)
				}
			}
			if len(balances) != len(c.Balances) {
				t.Errorf("%d balances, want %d", len(balances), len(c.Balances))
			}
		})
	}
}
