package ton_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// TestVoucherLayout compares the message that cashes a voucher with what another implementation builds.
func TestVoucherLayout(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(sandboxFile)
	if err != nil {
		t.Fatal(err)
	}
	var kept sandbox
	if err = json.Unmarshal(raw, &kept); err != nil {
		t.Fatal(err)
	}
	x := kept.Voucher
	v, err := ton.SignVoucher(key(1), ton.Voucher{Worker: x.Worker, Tokens: x.Tokens, QueryID: x.QueryID})
	if err != nil || !bytes.Equal(v.Signature[:], x.Signature) {
		t.Fatalf("%+v, %v", v, err)
	}
	signed, err := hex.DecodeString(x.Signed)
	if err != nil || !ed25519.Verify(key(1).Public().(ed25519.PublicKey), signed, v.Signature[:]) {
		t.Errorf("the signature is not over %s: %v", x.Signed, err)
	}
	boc, err := v.Body(x.ExcessTo)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cell.FromBOC(boc)
	if err != nil || hex.EncodeToString(c.Hash()) != x.Body {
		t.Errorf("body %x, want %s, %v", c.Hash(), x.Body, err)
	}
}

func TestVoucher(t *testing.T) {
	t.Parallel()
	public := key(1).Public().(ed25519.PublicKey)
	for _, v := range []ton.Voucher{{Worker: owner(1), Tokens: 1}, {Worker: owner(1), Tokens: 1<<64 - 1, QueryID: 1<<64 - 1, Last: true}} {
		signed, err := ton.SignVoucher(key(1), v)
		if err != nil {
			t.Fatal(err)
		}
		if err = signed.Verify(public); err != nil {
			t.Error(err)
		}
		boc, err := signed.Body(owner(2))
		if err != nil {
			t.Fatal(err)
		}
		got, excess, err := ton.ParseVoucher(boc)
		if err != nil || got != signed || excess != owner(2) {
			t.Errorf("%+v to %s, %v", got, excess, err)
		}
		for name, change := range map[string]func(*ton.SignedVoucher){
			"more tokens": func(v *ton.SignedVoucher) { v.Tokens-- }, "another worker": func(v *ton.SignedVoucher) { v.Worker = owner(3) },
			"another query": func(v *ton.SignedVoucher) { v.QueryID-- }, "last": func(v *ton.SignedVoucher) { v.Last = !v.Last },
			"signature": func(v *ton.SignedVoucher) { v.Signature[0] ^= 1 },
		} {
			forged := signed
			change(&forged)
			if err = forged.Verify(public); !errors.Is(err, ton.ErrVoucher) || !errors.Is(err, schemas.KindDenied) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err = signed.Verify(key(2).Public().(ed25519.PublicKey)); !errors.Is(err, ton.ErrVoucher) {
			t.Errorf("another key: %v", err)
		}
	}
	if _, err := ton.SignVoucher(key(1), ton.Voucher{Worker: "nobody"}); !errors.Is(err, schemas.KindInvalid) {
		t.Error(err)
	}
	if _, err := ton.SignVoucher(key(1)[:31], ton.Voucher{Worker: owner(1)}); !errors.Is(err, schemas.KindInvalid) {
		t.Error(err)
	}
}

// FuzzParseVoucher: what parses is built again with the same hash.
func FuzzParseVoucher(f *testing.F) {
	v, err := ton.SignVoucher(key(1), ton.Voucher{Worker: owner(1), Tokens: 5})
	if err != nil {
		f.Fatal(err)
	}
	boc, err := v.Body(owner(2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(boc)
	f.Add(cell.BeginCell().EndCell().ToBOC())
	f.Fuzz(func(t *testing.T, b []byte) {
		v, excess, err := ton.ParseVoucher(b)
		if err != nil {
			if !errors.Is(err, schemas.KindInvalid) {
				t.Error(err)
			}
			return
		}
		again, err := v.Body(excess)
		if err != nil {
			t.Fatal(err)
		}
		x, err := cell.FromBOC(b)
		if err != nil {
			t.Fatal(err)
		}
		y, err := cell.FromBOC(again)
		if err != nil || x.HashKey() != y.HashKey() {
			t.Errorf("%x, %v", again, err)
		}
	})
}
