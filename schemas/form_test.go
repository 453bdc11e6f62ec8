package schemas

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// forms makes one of each message that form writes and reads.
var forms = []func() walker{
	func() walker { return new(Envelope) }, func() walker { return new(Request) }, func() walker { return new(SealedResult) },
	func() walker { return new(Chunk) }, func() walker { return new(SealedChunk) }, func() walker { return new(Wrap) },
	func() walker { return new(Spend) }, func() walker { return new(SealedCall) }, func() walker { return new(SealedReply) },
	func() walker { return new(GrantCall) }, func() walker { return new(GrantReply) }, func() walker { return new(RenewCall) },
}

// byLibrary encodes with the library.
func byLibrary(t testing.TB, v any) []byte {
	t.Helper()
	enc, _ := cborModes()
	b, err := enc.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFormsAreTheLibrarys: for values of all sizes, form and library write the same bytes and read the same values.
func TestFormsAreTheLibrarys(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	_, dec := cborModes()
	for _, make := range forms {
		for range 300 {
			v := make()
			fill(r, reflect.ValueOf(v).Elem())
			b := writeForm(v)
			if want := byLibrary(t, v); !bytes.Equal(b, want) {
				t.Fatalf("%T\n%x\nwant\n%x", v, b, want)
			}
			ours, theirs := make(), make()
			if err := readForm(b, ours); err != nil {
				t.Fatalf("%T: %v", v, err)
			}
			if err := dec.Unmarshal(b, theirs); err != nil || !reflect.DeepEqual(ours, theirs) {
				t.Fatalf("%+v\nwant\n%+v, %v", ours, theirs, err)
			}
		}
	}
}

// fill puts something into every field: numbers of all lengths, strings around the borders of their heads.
func fill(r *rand.Rand, v reflect.Value) {
	number := func() uint64 { return r.Uint64() >> r.IntN(64) }
	length := func() int { return [...]int{0, 1, 23, 24, 255, 256, 70_000}[r.IntN(7)] }
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(r, v.Field(i))
			}
		}
	case reflect.Slice:
		n := r.IntN(4)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n = length()
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range min(n, 300) {
			fill(r, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.String:
		v.SetString(strings.Repeat("é", length()/2))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 1)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(number()))
	default:
		v.SetUint(number())
	}
}

// FuzzForms: form takes exactly what the library takes and encodes again to the same bytes.
func FuzzForms(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for i, make := range forms {
		v := make()
		fill(r, reflect.ValueOf(v).Elem())
		f.Add(i, byLibrary(f, v))
		f.Add(i, byLibrary(f, make()))
	}
	_, dec := cborModes()
	f.Fuzz(func(t *testing.T, i int, b []byte) {
		if i < 0 || i >= len(forms) {
			return
		}
		ours, theirs := forms[i](), forms[i]()
		mine := readForm(b, ours)
		taken := dec.Unmarshal(b, theirs) == nil && bytes.Equal(byLibrary(t, theirs), b)
		if (mine == nil) != taken {
			t.Fatalf("%T: %v, by the library %v", ours, mine, taken)
		}
		if taken && !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%+v, by the library %+v", ours, theirs)
		}
	})
}
