package nvidia

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"math/big"
	"sync"

	"filippo.io/nistec"

	"github.com/cocoon-network/cocoon/schemas"
)

// A GPU signs a report with the same key until its machine boots again, and verifying P-384 is most of what fresh evidence of
// a known machine costs. So a key that has verified gets a table of its multiples, with which a verification takes 108 point
// operations instead of a thousand.
//
// Why that is safe: everything here is public, so it may take a time that depends on it. The group arithmetic is filippo.io/nistec,
// the Go standard library's own, whose formulas have no exceptional cases; what is added here is the order of the
// operations. The first report under a key is verified by crypto/ecdsa, and the tests hold every later one against it: on
// Wycheproof's cases, by fuzzing and on made-up scalars.

// The comb method: a scalar of 384 bits is written as combTeeth rows of 48 bits, one below the other. A column of 8 bits is
// an index into a table; combTables of them cover the 48 columns, so that few doublings are left.
const (
	scalarSize  = 48
	combTeeth   = 8
	combTables  = 4
	combColumns = scalarSize * 8 / combTeeth
	combSpan    = combColumns / combTables
)

// comb holds sums of multiples of a point P: entry m of table t is the sum of 2^(48·k + 12·t)·P over the bits k of m.
type comb [combTables][1 << combTeeth]*nistec.P384Point

// newComb computes the table of a point, some 180 KB.
func newComb(p *nistec.P384Point) *comb {
	c := &comb{}
	power := nistec.NewP384Point().Set(p)
	for tooth := range combTeeth {
		for t := range combTables {
			c[t][0] = nistec.NewP384Point()
			for m := range 1 << tooth {
				c[t][1<<tooth|m] = nistec.NewP384Point().Add(c[t][m], power)
			}
			for range combSpan {
				power.Double(power)
			}
		}
	}
	return c
}

// column is the index that a column of a big-endian scalar makes.
func column(k *[scalarSize]byte, i int) (m int) {
	for tooth := range combTeeth {
		bit := tooth*combColumns + i
		m |= int(k[scalarSize-1-bit/8]>>(bit%8)&1) << tooth
	}
	return m
}

// verify checks a raw r‖s signature of the point's key over a digest of 48 bytes; base is the generator's table.
func (c *comb) verify(base *comb, digest, signature []byte) bool {
	n := elliptic.P384().Params().N
	r, s := new(big.Int).SetBytes(signature[:scalarSize]), new(big.Int).SetBytes(signature[scalarSize:])
	if r.Sign() == 0 || r.Cmp(n) >= 0 || s.Sign() == 0 || s.Cmp(n) >= 0 {
		return false
	}
	var u1, u2 [scalarSize]byte
	w, u := new(big.Int).ModInverse(s, n), new(big.Int).SetBytes(digest)
	u.Mul(u, w).Mod(u, n).FillBytes(u1[:])
	u.Mul(r, w).Mod(u, n).FillBytes(u2[:])
	sum := nistec.NewP384Point()
	for i := combSpan - 1; i >= 0; i-- {
		sum.Double(sum)
		for t := range combTables {
			sum.Add(sum, base[t][column(&u1, t*combSpan+i)])
			sum.Add(sum, c[t][column(&u2, t*combSpan+i)])
		}
	}
	x, err := sum.BytesX()
	return err == nil && u.SetBytes(x).Mod(u, n).Cmp(r) == 0
}

// maxKeys bounds the keys that have a table: 45 MB in all.
const maxKeys = 256

// signatures verifies signatures of P-384 keys.
type signatures struct {
	base func() *comb

	mu sync.Mutex // guards keys
	// keys that have verified, by hash; a key gets its table at its second signature.
	keys map[schemas.Hash]*comb
}

// newSignatures returns a verifier that knows no key.
func newSignatures() *signatures {
	return &signatures{
		base: sync.OnceValue(func() *comb { return newComb(nistec.NewP384Point().SetGenerator()) }),
		keys: map[schemas.Hash]*comb{},
	}
}

// verify checks a raw r‖s signature over a digest of 48 bytes.
func (v *signatures) verify(key *ecdsa.PublicKey, digest, signature []byte) bool {
	point, err := key.Bytes()
	if err != nil {
		return false
	}
	id := schemas.HashOf(point)
	v.mu.Lock()
	table, known := v.keys[id]
	v.mu.Unlock()
	switch {
	case !known:
		ok := ecdsa.Verify(key, digest, new(big.Int).SetBytes(signature[:scalarSize]), new(big.Int).SetBytes(signature[scalarSize:]))
		if ok {
			v.remember(id, nil)
		}
		return ok
	case table == nil:
		p, err := nistec.NewP384Point().SetBytes(point)
		if err != nil {
			return false
		}
		table = newComb(p)
		v.remember(id, table)
	}
	return table.verify(v.base(), digest, signature)
}

// remember keeps a key, at the price of another one when there are too many.
func (v *signatures) remember(id schemas.Hash, table *comb) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.keys[id]; !known && len(v.keys) >= maxKeys {
		for other := range v.keys {
			delete(v.keys, other)
			break
		}
	}
	v.keys[id] = table
}
