package nvidia

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"

	"filippo.io/nistec"

	"github.com/cocoon-network/cocoon/enclave/wycheprooftest"
)

// agreement holds the table's verification against crypto/ecdsa.
type agreement struct{ base *comb }

func newAgreement() *agreement {
	return &agreement{newComb(nistec.NewP384Point().SetGenerator())}
}

// verify returns what both say, and fails the test when they differ.
func (a *agreement) verify(t *testing.T, key *ecdsa.PublicKey, table *comb, digest, signature []byte) bool {
	t.Helper()
	want := ecdsa.Verify(key, digest, new(big.Int).SetBytes(signature[:48]), new(big.Int).SetBytes(signature[48:]))
	if got := table.verify(a.base, digest, signature); got != want {
		t.Errorf("key %+v, digest %x, signature %x: the table says %t, crypto/ecdsa %t", key, digest, signature, got, want)
	}
	return want
}

// tableOf makes a key's table.
func tableOf(t testing.TB, key *ecdsa.PublicKey) *comb {
	t.Helper()
	b, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	p, err := nistec.NewP384Point().SetBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return newComb(p)
}

// TestWycheproof: signatures over reports and certificates, by people who meant them to be taken wrongly.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	a := newAgreement()
	parse := func(c *wycheprooftest.Case) *ecdsa.PublicKey {
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), c.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	wycheprooftest.Each(t, "ecdsa_secp384r1_sha384_p1363_test.json", 280, func(t *testing.T, c *wycheprooftest.Case) {
		key, digest := parse(c), sha512.Sum384(c.Msg)
		// A report's signature has 96 bytes by its form.
		if taken := len(c.Sig) == signatureSize && a.verify(t, key, tableOf(t, key), digest[:], c.Sig); taken != c.Valid() {
			t.Errorf("case %d (%s) is %s; taken: %t", c.ID, c.Comment, c.Result, taken)
		}
	})
	wycheprooftest.Each(t, "ecdsa_secp384r1_sha384_test.json", 500, func(t *testing.T, c *wycheprooftest.Case) {
		issuer := &x509.Certificate{PublicKeyAlgorithm: x509.ECDSA, PublicKey: parse(c)}
		if err := issuer.CheckSignature(x509.ECDSAWithSHA384, c.Msg, c.Sig); (err == nil) != c.Valid() {
			t.Errorf("case %d (%s) is %s: %v", c.ID, c.Comment, c.Result, err)
		}
	})
}

// TestTableAgrees: good signatures, the same with one bit turned, and scalars at every border.
func TestTableAgrees(t *testing.T) {
	t.Parallel()
	a := newAgreement()
	n := elliptic.P384().Params().N
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	table := tableOf(t, &key.PublicKey)
	digest := make([]byte, 48)
	for i := range 100 {
		rand.Read(digest)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			t.Fatal(err)
		}
		signature := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
		if !a.verify(t, &key.PublicKey, table, digest, signature) {
			t.Fatal("a good signature was refused")
		}
		signature[i%96] ^= 1 << (i % 8)
		if a.verify(t, &key.PublicKey, table, digest, signature) {
			t.Fatal("a changed signature was taken")
		}
	}
	one := big.NewInt(1)
	borders := []*big.Int{
		new(big.Int), one, big.NewInt(2), new(big.Int).Sub(n, one), n, new(big.Int).Add(n, one), new(big.Int).Sub(new(big.Int).Lsh(one, 384), one), new(big.Int).Rsh(n, 1),
	}
	for _, r := range borders {
		for _, s := range borders {
			for _, d := range borders {
				signature := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
				a.verify(t, &key.PublicKey, table, d.FillBytes(make([]byte, 48)), signature)
			}
		}
	}
}

// FuzzTable: whatever key, digest and signature, the table and crypto/ecdsa say the same. A flag has the signature made with
// the key, so that good ones come too.
func FuzzTable(f *testing.F) {
	a := newAgreement()
	f.Add([]byte{1}, []byte("digest"), []byte("signature"), true)
	f.Add([]byte{0xff}, []byte{}, slices.Repeat([]byte{0xff}, 96), false)
	f.Fuzz(func(t *testing.T, scalar, digest, signature []byte, sign bool) {
		n := elliptic.P384().Params().N
		d := new(big.Int).SetBytes(scalar)
		d.Mod(d, new(big.Int).Sub(n, big.NewInt(1))).Add(d, big.NewInt(1))
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), d.FillBytes(make([]byte, 48)))
		if err != nil {
			t.Fatal(err)
		}
		// Inputs may lie side by side in one array: appending to one must not write into the other.
		digest, signature = append(slices.Clip(digest), make([]byte, 48)...)[:48], append(slices.Clip(signature), make([]byte, 96)...)[:96]
		if sign {
			r, s, err := ecdsa.Sign(rand.Reader, key, digest)
			if err != nil {
				t.Fatal(err)
			}
			r.FillBytes(signature[:48])
			s.FillBytes(signature[48:])
		}
		if ok := a.verify(t, &key.PublicKey, tableOf(t, &key.PublicKey), digest, signature); sign && !ok {
			t.Error("a good signature was refused")
		}
	})
}

// TestSignaturesKeepsKeys: only keys that have verified are kept, their number is bounded, and nothing changes what is taken.
func TestSignaturesKeepsKeys(t *testing.T) {
	t.Parallel()
	v := newSignatures()
	digest := make([]byte, 48)
	for range maxKeys + 3 {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			t.Fatal(err)
		}
		signature := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
		wrong := slices.Clone(signature)
		wrong[50] ^= 1
		before := len(v.keys)
		if v.verify(&key.PublicKey, digest, wrong) || len(v.keys) != before {
			t.Fatal("a key is kept that has verified nothing")
		}
		rounds := 1
		if before < 2 {
			rounds = 3 // by crypto/ecdsa, with a new table, with a known table
		}
		for range rounds {
			if !v.verify(&key.PublicKey, digest, signature) {
				t.Fatal("a good signature was refused")
			}
			if v.verify(&key.PublicKey, digest, wrong) {
				t.Fatal("a wrong signature was taken")
			}
		}
	}
	if len(v.keys) > maxKeys {
		t.Errorf("%d keys are kept", len(v.keys))
	}
}

func BenchmarkSignature(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := make([]byte, 48)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		b.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
	b.Run("crypto/ecdsa", func(b *testing.B) {
		for b.Loop() {
			ecdsa.Verify(&key.PublicKey, digest, r, s)
		}
	})
	b.Run("table", func(b *testing.B) {
		base, table := newComb(nistec.NewP384Point().SetGenerator()), tableOf(b, &key.PublicKey)
		for b.Loop() {
			if !table.verify(base, digest, signature) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("new-table", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tableOf(b, &key.PublicKey)
		}
	})
}
