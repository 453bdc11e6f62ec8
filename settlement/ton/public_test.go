//go:build publicnet

package ton_test

import (
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/settlement/ton"
)

// TestPublicNetwork reads a public network, which needs the internet and is therefore behind a build tag:
//
//	COCOON_TON_CONFIG=global.config.json COCOON_TON_ADDRESS=EQ... go test -tags publicnet -run PublicNetwork ./settlement/ton
func TestPublicNetwork(t *testing.T) {
	global, err := os.ReadFile(os.Getenv("COCOON_TON_CONFIG"))
	if err != nil {
		t.Fatal("COCOON_TON_CONFIG must name a global config: ", err)
	}
	chain, err := ton.Connect(t.Context(), ton.Config{GlobalConfig: global})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	now, err := chain.Now(t.Context())
	t.Logf("block %d of %s, %v", now.Seqno, now.Time, err)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := ton.ParseAddress(os.Getenv("COCOON_TON_ADDRESS"))
	if err != nil {
		t.Fatal(err)
	}
	account, err := chain.Account(addr.Owner)
	if err != nil {
		t.Fatal(err)
	}
	st, err := account.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("balance %s, deployed %v, last transaction %s", st.Balance, st.Deployed, st.Last)
}
