package measure

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

// firmware builds a TDVF image of 64 KiB: a measured boot volume, an unmeasured variable store, a hand-off block and
// temporary memory.
func firmware() []byte {
	const size = 64 << 10
	b, le := make([]byte, size), binary.LittleEndian
	for i := range b {
		b[i] = byte(i * 7)
	}
	meta := 0x8000
	copy(b[meta-guidSize:], []byte{0xf3, 0xf9, 0xea, 0xe9, 0x8e, 0x16, 0xd5, 0x44, 0xa8, 0xeb, 0x7f, 0x4d, 0x87, 0x38, 0xf6, 0xae})
	copy(b[meta:], "TDVF")
	le.PutUint32(b[meta+4:], headerSize+4*sectionSize)
	le.PutUint32(b[meta+8:], metaVersion)
	le.PutUint32(b[meta+12:], 4)
	for i, s := range []struct {
		section
		kind uint32
	}{
		{section{dataOffset: 0x1000, dataSize: 0xf000, address: 0xffff1000, size: 0xf000, attributes: attrMeasured}, 0},
		{section{dataOffset: 0, dataSize: 0x1000, address: 0xffff0000, size: 0x1000}, 1},
		{section{address: 0x809000, size: 0x2000}, 2},
		{section{address: 0x80b000, size: 0x3000}, 3},
	} {
		at := b[meta+headerSize+i*sectionSize:]
		le.PutUint32(at, s.dataOffset)
		le.PutUint32(at[4:], s.dataSize)
		le.PutUint64(at[8:], s.address)
		le.PutUint64(at[16:], s.size)
		le.PutUint32(at[24:], s.kind)
		le.PutUint32(at[28:], s.attributes)
	}
	end := size - footerEnd
	copy(b[end-guidSize:], footerGUID[:])
	le.PutUint16(b[end-entryTail:], entryTail+entryTail+4)
	at := end - entryTail
	copy(b[at-guidSize:], metadataGUID[:])
	le.PutUint16(b[at-entryTail:], entryTail+4)
	le.PutUint32(b[at-entryTail-4:], uint32(size-meta))
	return b
}

// TestMRTD compares with the value that Google's own tool (gce-tcb-verifier v0.3.1) computes for the same image.
func TestMRTD(t *testing.T) {
	t.Parallel()
	const want = "704db9f9ba75d3ceed1d25166f72db4c437942b4a0ec8b77af59a11dbd7e6e1cc3d42ab66176573174c1a0b49468c043"
	got, err := MRTD(firmware())
	if err != nil || got.String() != want {
		t.Errorf("MRTD %s, %v, want %s", got, err, want)
	}
	changed := firmware()
	changed[0xe100] ^= 1
	if other, err := MRTD(changed); err != nil || other == got {
		t.Errorf("a changed boot block has the same MRTD: %v", err)
	}
	changed = firmware()
	changed[0x100] ^= 1
	if same, err := MRTD(changed); err != nil || same != got {
		t.Errorf("the variable store is measured: %v", err)
	}
	changed = firmware()
	changed[0x8000+headerSize+3*sectionSize+28] |= attrAugment // accepted later by the guest: not added at launch
	if other, err := MRTD(changed); err != nil || other == got {
		t.Errorf("a section of memory accepted later counts: %v", err)
	}
}

func TestBadFirmware(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	end := 64<<10 - footerEnd
	for name, change := range map[string]func([]byte) []byte{
		"empty":                    func([]byte) []byte { return nil },
		"too large":                func([]byte) []byte { return make([]byte, MaxFirmware+1) },
		"no table":                 func(b []byte) []byte { b[end-1] ^= 1; return b },
		"table of no size":         func(b []byte) []byte { le.PutUint16(b[end-entryTail:], 1); return b },
		"entry of no size":         func(b []byte) []byte { le.PutUint16(b[end-2*entryTail:], 0); return b },
		"not built for TDX":        func(b []byte) []byte { b[end-entryTail-1] ^= 1; return b },
		"metadata outside":         func(b []byte) []byte { le.PutUint32(b[end-2*entryTail-4:], 1<<31); return b },
		"another signature":        func(b []byte) []byte { b[0x8000] ^= 1; return b },
		"another version":          func(b []byte) []byte { b[0x8008] ^= 2; return b },
		"too many sections":        func(b []byte) []byte { le.PutUint32(b[0x800c:], 65); return b },
		"unaligned section":        func(b []byte) []byte { b[0x8000+headerSize+8] ^= 1; return b },
		"data outside":             func(b []byte) []byte { le.PutUint32(b[0x8000+headerSize:], 1<<31); return b },
		"endless section":          func(b []byte) []byte { le.PutUint64(b[0x8000+headerSize+sectionSize+16:], 1<<62); return b },
		"measured beyond its data": func(b []byte) []byte { le.PutUint64(b[0x8000+headerSize+16:], 0x3000); return b },
	} {
		if _, err := MRTD(change(firmware())); schemas.KindOf(err) != schemas.KindInvalid && schemas.KindOf(err) != schemas.KindTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// realLog is the boot log of a real TDX guest; see testdata/README.md.
func realLog(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/cos-113-ccel.bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReplayRealLog(t *testing.T) {
	t.Parallel()
	want := [4]string{
		"a4de2df23e9611299123ba4359c42a5e578b0f8488bf1bba8ef5606d9ea5d81c97c064b482a5eac537d166bd0f0f752d",
		"0ee9366c928a77092f55e9e114c7394181fd264699155f0df77d23577618d5f650568a17d379355a07bd846e552f4e20",
		"4969684dc87381fc3b3134176c8d8806eaf0a901859f5f70cfae8d17714b46c10a8de219048c9fc09f11f381a6fbe7c1",
		schemas.Measure{}.String(),
	}
	for name, b := range map[string][]byte{
		"as it is": realLog(t), "padded with ones": append(realLog(t), bytes.Repeat([]byte{0xff}, 1000)...), "padded with zeros": append(realLog(t), make([]byte, 1000)...),
	} {
		registers, events, err := ReplayCCEL(b)
		if err != nil || len(events) < 20 {
			t.Errorf("%s: %d events, %v", name, len(events), err)
		}
		for i, r := range registers {
			if r.String() != want[i] {
				t.Errorf("%s: RTMR%d %s, want %s", name, i, r, want[i])
			}
		}
	}
}

func TestBadLogs(t *testing.T) {
	t.Parallel()
	real := realLog(t)
	for name, b := range map[string][]byte{
		"empty": nil, "zeros": make([]byte, 1000), "header only": real[:60], "cut": real[:1000], "huge": make([]byte, MaxCCEL+1),
		"not a log": bytes.Repeat([]byte{7}, 500),
	} {
		if _, _, err := ReplayCCEL(b); schemas.KindOf(err) != schemas.KindInvalid && schemas.KindOf(err) != schemas.KindTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 { // nothing panics
		x := bytes.Clone(real)
		x[random.IntN(len(x))] = byte(random.Uint32())
		_, _, _ = ReplayCCEL(x[:random.IntN(len(x))])
	}
}

func FuzzMRTD(f *testing.F) {
	f.Add(firmware())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := MRTD(b); err != nil && schemas.KindOf(err) == schemas.KindUnknown {
			t.Fatalf("untyped error: %v", err)
		}
	})
}

func FuzzCCEL(f *testing.F) {
	f.Add(realLog(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, events, err := ReplayCCEL(b); err != nil && schemas.KindOf(err) == schemas.KindUnknown || err == nil && len(events) == 0 {
			t.Fatalf("%d events, %v", len(events), err)
		}
	})
}
