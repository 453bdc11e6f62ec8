package enclave

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/cocoon-network/cocoon/schemas"
)

// TestFrames: content of any size comes back, and no prefix, suffix or permutation of its frames opens.
func TestFrames(t *testing.T) {
	t.Parallel()
	const frame = schemas.FrameSize + schemas.TagSize
	key := [secretSize]byte{1}
	for _, size := range []int{1, 100, schemas.FrameSize - 1, schemas.FrameSize, schemas.FrameSize + 1, 3 * schemas.FrameSize, 3*schemas.FrameSize + 7} {
		content := bytes.Repeat([]byte{7}, size)
		sealed := sealFrames(key, bytes.Clone(content))
		open := func(sealed []byte) ([]byte, error) { return openFrames(key, bytes.Clone(sealed)) }
		got, err := open(sealed)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		for cut := 0; cut < len(sealed); cut += len(sealed)/50 + 1 {
			if _, err := open(sealed[:cut]); !errors.Is(err, schemas.KindSealed) {
				t.Errorf("%d bytes cut to %d: %v", size, cut, err)
			}
		}
		for cut := frame; cut < len(sealed); cut += frame {
			if _, err := open(sealed[cut:]); !errors.Is(err, schemas.KindSealed) {
				t.Errorf("%d bytes without the first %d: %v", size, cut, err)
			}
			if _, err := open(sealed[:cut]); !errors.Is(err, schemas.KindSealed) {
				t.Errorf("%d bytes cut between frames at %d: %v", size, cut, err)
			}
		}
	}
}

// TestPadding: what is padded comes back, sizes grow by at most an eighth above the floor, and few sizes exist.
func TestPadding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		floor := rapid.SampledFrom([]int{requestFloor, resultFloor}).Draw(t, "floor")
		content := bytes.Repeat([]byte{1}, rapid.IntRange(0, 200_000).Draw(t, "size"))
		padded := pad(content, floor)
		if got, err := unpad(padded, floor); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%v", err)
		}
		if limit := max(len(content)+lengthPrefix, floor) * 9 / 8; len(padded) > limit || len(padded) < floor {
			t.Fatalf("%d bytes became %d", len(content), len(padded))
		}
	})
	sizes := map[int]bool{}
	for n := range 1 << 17 {
		sizes[paddedSize(n, requestFloor)] = true
	}
	if len(sizes) > 100 {
		t.Errorf("%d sizes of padded content below 128 KiB", len(sizes))
	}
	for _, broken := range [][]byte{nil, {0, 0, 0}, append(pad(nil, resultFloor), 0), pad(nil, resultFloor)[1:]} {
		if _, err := unpad(broken, resultFloor); !errors.Is(err, schemas.KindSealed) {
			t.Errorf("%d bytes: %v", len(broken), err)
		}
	}
}

// TestCaches: secrets and reply encapsulations are remembered up to their limits, the oldest forgotten first.
func TestCaches(t *testing.T) {
	t.Parallel()
	c, opened := newSecretCache(2), 0
	get := func(enc byte) {
		t.Helper()
		secret, err := c.get([]byte{enc}, func() ([secretSize]byte, error) {
			opened++
			return [secretSize]byte{enc}, nil
		})
		if err != nil || secret != [secretSize]byte{enc} {
			t.Fatalf("%v, %v", secret, err)
		}
	}
	for _, enc := range []byte{1, 2, 1, 3, 1} {
		get(enc)
	}
	if opened != 3 {
		t.Errorf("opened %d times, want 3", opened)
	}
	if get(2); opened != 4 {
		t.Error("the least recently used was not forgotten")
	}
	failure := errors.New("no")
	if _, err := c.get([]byte{9}, func() ([secretSize]byte, error) { return [secretSize]byte{}, failure }); !errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
	if c.wipe(); len(c.byEnc) != 0 || c.order.Len() != 0 {
		t.Error("something was kept")
	}

	r := newReplies(2)
	encs := map[string]bool{}
	for range 3 {
		private, err := kem().GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			enc, _, _, err := r.take(private.PublicKey().Bytes())
			if err != nil {
				t.Fatal(err)
			}
			encs[string(enc)] = true
		}
	}
	if len(encs) != 3 || len(r.byKey) != 2 || len(r.order) != 2 {
		t.Errorf("%d encapsulations for 3 keys, %d remembered", len(encs), len(r.byKey))
	}
	private, err := kem().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	encs = map[string]bool{}
	for range schemas.MaxPerEncapsulation + 1 {
		enc, _, _, err := r.take(private.PublicKey().Bytes())
		if err != nil {
			t.Fatal(err)
		}
		encs[string(enc)] = true
	}
	if len(encs) != 2 {
		t.Errorf("%d encapsulations for %d results", len(encs), schemas.MaxPerEncapsulation+1)
	}
	if _, _, _, err := r.take([]byte("no key")); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("%v", err)
	}
}
