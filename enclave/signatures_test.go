package enclave

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"math/big"
	"slices"
	"sync"
	"testing"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	"github.com/cocoon-network/cocoon/enclave/wycheprooftest"
)

// agree returns what crypto/ed25519 says of a signature, and fails the test when a table says something else. A table is made
// of every key that has one, although only keys that verified get one outside tests.
func agree(t *testing.T, key, message, signature []byte) bool {
	t.Helper()
	want := len(key) == ed25519.PublicKeySize && ed25519.Verify(key, message, signature)
	table, err := voi.NewExpandedPublicKey(key)
	got := err == nil && verifyWithTable(table, message, signature)
	if got != want {
		t.Errorf("key %x, message %x, signature %x: the table says %t, crypto/ed25519 %t", key, message, signature, got, want)
	}
	return want
}

// TestTableWycheproof: signatures by people who meant them to be taken wrongly.
func TestTableWycheproof(t *testing.T) {
	t.Parallel()
	wycheprooftest.Each(t, "ed25519_test.json", 150, func(t *testing.T, c *wycheprooftest.Case) {
		if taken := agree(t, c.PublicKey, c.Msg, c.Sig); taken != c.Valid() {
			t.Errorf("case %d (%s) is %s; taken: %t", c.ID, c.Comment, c.Result, taken)
		}
	})
}

// order is that of the base point, L.
var order, _ = new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)

// scalarBytes spells a scalar of at most 256 bits, the lowest byte first.
func scalarBytes(s *big.Int) []byte {
	b := s.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	return b
}

// TestTableAgrees: good signatures, the same with one bit turned, and the same with another spelling of S, which whoever has one
// can write without the key.
func TestTableAgrees(t *testing.T) {
	t.Parallel()
	for i := range 512 {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		message := bytes.Repeat([]byte{byte(i)}, i)
		signature := ed25519.Sign(private, message)
		if !agree(t, public, message, signature) {
			t.Fatal("a good signature was refused")
		}
		changed := slices.Clone(signature)
		changed[i/8] ^= 1 << (i % 8)
		if agree(t, public, message, changed) || agree(t, public, message, signature[:63]) || agree(t, public, append(message, 0), signature) {
			t.Fatal("a changed signature was taken")
		}
		s := slices.Clone(signature[32:])
		slices.Reverse(s)
		for n := range int64(15) { // 15·L is the last multiple that fits with S into 256 bits
			other := new(big.Int).Mul(order, big.NewInt(n+1))
			if agree(t, public, message, append(signature[:32:32], scalarBytes(other.Add(other, new(big.Int).SetBytes(s)))...)) {
				t.Fatal("S + nL was taken")
			}
		}
	}
}

// oddPoints are the spellings of the eight points of small order, canonical and not, and some that are no point at all.
var oddPoints = []string{
	"0100000000000000000000000000000000000000000000000000000000000000", // order 1
	"0100000000000000000000000000000000000000000000000000000000000080", // with the sign of zero
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"0000000000000000000000000000000000000000000000000000000000000000", // order 4
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p, which is 0
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p+1, which is 1
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"0200000000000000000000000000000000000000000000000000000000000000", // no point
	"f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p+3
	"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", // p+18
	"5866666666666666666666666666666666666666666666666666666666666666", // the base point
}

// TestTableOddPoints: key and R of small order or in another spelling, where libraries differ by whether they multiply by the
// cofactor, and S at every border.
func TestTableOddPoints(t *testing.T) {
	t.Parallel()
	one := big.NewInt(1)
	borders := []*big.Int{new(big.Int), one, new(big.Int).Sub(order, one), order, new(big.Int).Add(order, one), new(big.Int).Sub(new(big.Int).Lsh(one, 256), one)}
	taken, refused := 0, 0
	for _, a := range oddPoints {
		for _, r := range oddPoints {
			for _, s := range borders {
				for message := range byte(8) {
					key, _ := hex.DecodeString(a)
					signature, _ := hex.DecodeString(r)
					if agree(t, key, []byte{message}, append(signature, scalarBytes(s)...)) {
						taken++
					} else {
						refused++
					}
				}
			}
		}
	}
	if taken < 50 || refused < 50 {
		t.Errorf("%d signatures were taken and %d refused: nothing is compared", taken, refused)
	}
}

// FuzzTableAgrees: whatever key, message and signature, the table and crypto/ed25519 say the same. A flag has the signature
// made with a key, so that good ones come too.
func FuzzTableAgrees(f *testing.F) {
	for _, p := range oddPoints {
		b, _ := hex.DecodeString(p)
		f.Add(b, []byte("message"), append(b, make([]byte, 32)...), false)
		f.Add(b, []byte("message"), []byte{}, true)
	}
	f.Fuzz(func(t *testing.T, key, message, signature []byte, sign bool) {
		if sign {
			private := ed25519.NewKeyFromSeed(append(slices.Clip(key), make([]byte, 32)...)[:32])
			good := ed25519.Sign(private, message)
			if key = private.Public().(ed25519.PublicKey); !agree(t, key, message, good) {
				t.Error("a good signature was refused")
			}
			for i := range min(len(signature), len(good)) {
				good[i] ^= signature[i]
			}
			signature = good
		}
		agree(t, key, message, signature)
	})
}

// TestSignaturesKeepsKeys: only keys that have verified are kept, their number is bounded, and nothing changes what is taken.
func TestSignaturesKeepsKeys(t *testing.T) {
	t.Parallel()
	var v Signatures
	message := []byte("message")
	if v.verify(nil, message, make([]byte, 64)) || v.verify(make([]byte, 31), message, make([]byte, 64)) {
		t.Error("a key of another length was taken")
	}
	for range maxSignatureKeys + 3 {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signature := ed25519.Sign(private, message)
		wrong := slices.Clone(signature)
		wrong[50] ^= 1
		before := len(v.keys)
		if v.verify(public, message, wrong) || len(v.keys) != before {
			t.Fatal("a key is kept that has verified nothing")
		}
		for range 3 { // by crypto/ed25519, with a new table, with a known table
			if !v.verify(public, message, signature) {
				t.Fatal("a good signature was refused")
			}
			if v.verify(public, message, wrong) || v.verify(public, message, signature[:63]) {
				t.Fatal("a wrong signature was taken")
			}
		}
		if v.keys[[32]byte(public)] == nil {
			t.Fatal("a known key has no table")
		}
	}
	if len(v.keys) != maxSignatureKeys {
		t.Errorf("%d keys are kept", len(v.keys))
	}
}

// TestSignaturesConcurrently: callers that meet at a new key all get the right answer.
func TestSignaturesConcurrently(t *testing.T) {
	t.Parallel()
	var v Signatures
	var wg sync.WaitGroup
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	signature := ed25519.Sign(private, message)
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if !v.verify(public, message, signature) || v.verify(public, message[1:], signature) {
					t.Error("the answer is wrong")
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkSignature(b *testing.B) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	statement := make([]byte, 700)
	signature := ed25519.Sign(private, statement)
	b.Run("crypto/ed25519", func(b *testing.B) {
		for b.Loop() {
			ed25519.Verify(public, statement, signature)
		}
	})
	b.Run("known key", func(b *testing.B) {
		var v Signatures
		for b.Loop() {
			v.verify(public, statement, signature)
		}
	})
}
