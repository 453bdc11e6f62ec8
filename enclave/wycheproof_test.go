package enclave_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/sha256"
	"testing"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/wycheprooftest"
	"github.com/cocoon-network/cocoon/schemas"
)

// disagree reports a case that was taken although it is invalid, or refused although it is valid.
func disagree(t *testing.T, c *wycheprooftest.Case, taken bool) {
	t.Helper()
	if taken != c.Valid() && c.Result != "acceptable" {
		t.Errorf("case %d (%s) is %s; taken: %t", c.ID, c.Comment, c.Result, taken)
	}
}

// TestWycheproofEd25519: grants, receipts, key bundles, spend authorisations, policies and catalogues are signed with it.
func TestWycheproofEd25519(t *testing.T) {
	t.Parallel()
	wycheprooftest.Each(t, "ed25519_test.json", 150, func(t *testing.T, c *wycheprooftest.Case) {
		disagree(t, c, ed25519.Verify(ed25519.PublicKey(c.PublicKey), c.Msg, c.Sig))
	})
}

// TestWycheproofGCM: every frame, wrap and chunk is sealed with AES-256-GCM with nonces of 12 bytes.
func TestWycheproofGCM(t *testing.T) {
	t.Parallel()
	ours := 0
	wycheprooftest.Each(t, "aes_gcm_test.json", 300, func(t *testing.T, c *wycheprooftest.Case) {
		aead := enclave.GCM([32]byte{})
		if len(c.Key) != 32 || len(c.IV) != aead.NonceSize() || len(c.Tag) != aead.Overhead() {
			return
		}
		ours++
		aead, sealed := enclave.GCM([32]byte(c.Key)), append(bytes.Clone(c.CT), c.Tag...)
		plain, err := aead.Open(nil, c.IV, sealed, c.AAD)
		disagree(t, c, err == nil)
		if c.Valid() && (!bytes.Equal(plain, c.Msg) || !bytes.Equal(aead.Seal(nil, c.IV, c.Msg, c.AAD), sealed)) {
			t.Errorf("case %d: another plaintext or ciphertext", c.ID)
		}
	})
	if ours < 60 {
		t.Errorf("%d cases have our sizes", ours)
	}
}

// TestWycheproofDerivation: every key is derived with HKDF-SHA256, and challenges are HMAC-SHA256.
func TestWycheproofDerivation(t *testing.T) {
	t.Parallel()
	wycheprooftest.Each(t, "hkdf_sha256_test.json", 80, func(t *testing.T, c *wycheprooftest.Case) {
		okm, err := hkdf.Key(sha256.New, c.IKM, c.Salt, string(c.Info), c.Size)
		disagree(t, c, err == nil && bytes.Equal(okm, c.OKM))
	})
	wycheprooftest.Each(t, "hmac_sha256_test.json", 170, func(t *testing.T, c *wycheprooftest.Case) {
		mac := hmac.New(sha256.New, c.Key)
		mac.Write(c.Msg)
		disagree(t, c, hmac.Equal(mac.Sum(nil)[:len(c.Tag)], c.Tag))
	})
}

// TestWycheproofMLKEM768: the post-quantum half of every encapsulation.
func TestWycheproofMLKEM768(t *testing.T) {
	t.Parallel()
	wycheprooftest.Each(t, "mlkem_768_test.json", 200, func(t *testing.T, c *wycheprooftest.Case) {
		key, err := mlkem.NewDecapsulationKey768(c.Seed)
		if err != nil {
			disagree(t, c, false)
			return
		}
		shared, err := key.Decapsulate(c.Ciphertext)
		disagree(t, c, err == nil && bytes.Equal(key.EncapsulationKey().Bytes(), c.Encapsulation) && bytes.Equal(shared, c.SharedKey))
	})
	wycheprooftest.Each(t, "mlkem_768_keygen_seed_test.json", 100, func(t *testing.T, c *wycheprooftest.Case) {
		key, err := mlkem.NewDecapsulationKey768(c.Seed)
		disagree(t, c, err == nil && bytes.Equal(key.EncapsulationKey().Bytes(), c.Encapsulation))
	})
}

// TestWycheproofPublicKeys shows bad halves of public keys and of encapsulations to the functions that seals are made with: a
// key whose coefficients overflow, and points of small order, from which everybody can compute the secret.
func TestWycheproofPublicKeys(t *testing.T) {
	t.Parallel()
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	good := private.PublicKey().Bytes()
	wycheprooftest.Each(t, "mlkem_768_encaps_test.json", 260, func(t *testing.T, c *wycheprooftest.Case) {
		public := append(bytes.Clone(c.Encapsulation), good[mlkem.EncapsulationKeySize768:]...)
		_, _, err := enclave.EncapsulateTo(public)
		disagree(t, c, err == nil)
	})
	enc, _, err := enclave.EncapsulateTo(good)
	if err != nil {
		t.Fatal(err)
	}
	small := 0
	wycheprooftest.Each(t, "x25519_test.json", 500, func(t *testing.T, c *wycheprooftest.Case) {
		key, err := ecdh.X25519().NewPrivateKey(c.Private)
		if err != nil {
			t.Fatal(err)
		}
		point, err := ecdh.X25519().NewPublicKey(c.Public)
		if err != nil {
			t.Fatal(err)
		}
		shared, err := key.ECDH(point)
		if !bytes.Equal(c.Shared, make([]byte, 32)) {
			disagree(t, c, err == nil && bytes.Equal(shared, c.Shared))
			if err == nil && !bytes.Equal(shared, c.Shared) {
				t.Errorf("case %d: another secret", c.ID)
			}
			return
		}
		small++
		if err == nil {
			t.Errorf("case %d (%s): the secret is zero and was taken", c.ID, c.Comment)
		}
		if _, _, err := enclave.EncapsulateTo(append(bytes.Clone(good[:mlkem.EncapsulationKeySize768]), c.Public...)); err == nil {
			t.Errorf("case %d (%s): sealed to a point of small order", c.ID, c.Comment)
		}
		if err := enclave.DecapsulateFrom(append(bytes.Clone(enc[:mlkem.CiphertextSize768]), c.Public...), private); schemas.KindOf(err) != schemas.KindSealed {
			t.Errorf("case %d (%s): opened from a point of small order: %v", c.ID, c.Comment, err)
		}
	})
	if small < 10 {
		t.Errorf("%d points of small order", small)
	}
}

// TestWycheproofJWS: tokens of other algorithms, keys and headers, valid or not, are none of ours.
func TestWycheproofJWS(t *testing.T) {
	t.Parallel()
	wycheprooftest.Each(t, "json_web_signature_test.json", 400, func(t *testing.T, c *wycheprooftest.Case) {
		if _, _, err := enclave.ReadGrant(c.JWS); schemas.KindOf(err) != schemas.KindInvalid && schemas.KindOf(err) != schemas.KindTooLarge {
			t.Errorf("case %d (%s): %v", c.ID, c.Comment, err)
		}
	})
}
