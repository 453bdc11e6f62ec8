//go:build cgo

package kernels

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// f16 makes a 16-bit float of a small normal number, exactly: the numbers of this test have few digits.
func f16(f float32) uint16 {
	if f == 0 {
		return 0
	}
	b := math.Float32bits(f)
	return uint16(b>>16&0x8000) | uint16(int(b>>23&0xff)-112)<<10 | uint16(b>>13&0x3ff)
}

// noise makes numbers that products and sums of keep exact in float32, so that results can be compared for equality.
func noise(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.IntN(65)-32) / 8
	}
	return v
}

func halves(v []float32) []uint16 {
	h := make([]uint16, len(v))
	for i := range v {
		h[i] = f16(v[i])
	}
	return h
}

func dot(x, y []float32) (s float32) {
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}

func TestDot(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 140; n++ {
		x, y := noise(r, n), noise(r, n)
		if got := dotF32(x, y); got != dot(x, y) {
			t.Errorf("f32 of %d: %v, want %v", n, got, dot(x, y))
		}
		if got := dotF16(halves(x), halves(y)); got != dot(x, y) {
			t.Errorf("f16 of %d: %v, want %v", n, got, dot(x, y))
		}
	}
}

// TestProduct: every size of tile, strides wider than the rows, several threads; nothing outside the result is written.
func TestProduct(t *testing.T) {
	t.Parallel()
	if ISA() == "" {
		if os.Getenv("COCOON_TEST_REQUIRE") == "all" {
			t.Fatal("this processor lacks AVX2, FMA or F16C, and COCOON_TEST_REQUIRE=all")
		}
		t.Skip("this processor lacks AVX2, FMA or F16C: ggml's own code computes")
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		m, n, k, threads := 1+r.IntN(23), 1+r.IntN(11), 8*(1+r.IntN(9)), 1+r.IntN(5)
		lda, ldb, ldc := k+r.IntN(3), k+r.IntN(3), m+r.IntN(3)
		a, b := noise(r, m*lda), noise(r, n*ldb)
		const mark = 12345
		c := make([]float32, n*ldc)
		for i := range c {
			c[i] = mark
		}
		half := r.IntN(2) == 1
		for i := range threads {
			ok := false
			if half {
				ok = product(i, threads, m, n, k, halves(a), lda, b, ldb, c, ldc)
			} else {
				ok = product(i, threads, m, n, k, a, lda, b, ldb, c, ldc)
			}
			if !ok {
				t.Fatal("not computed")
			}
		}
		for j := range n {
			for i := range ldc {
				want := float32(mark)
				if i < m {
					want = dot(a[i*lda:i*lda+k], b[j*ldb:j*ldb+k])
				}
				if got := c[j*ldc+i]; got != want {
					t.Fatalf("%dx%dx%d, %d threads, half %v: C[%d,%d] is %v, want %v", m, n, k, threads, half, i, j, got, want)
				}
			}
		}
	}
}
