package ton_test

import (
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/address"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement/ton"
)

// libAddress is an address in the library's type.
func libAddress(a ton.Address) *address.Address { return address.MustParseRawAddr(string(a.Owner)) }

// friendly and raw are one address in all its spellings: that of the original network's root contract.
const (
	friendly = "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k"
	raw      = "0:a7b3b6d84a9d22805bd2d70a5be70b198c2282575f4c0f9015cc8e04cb1b2753"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	a, err := ton.ParseAddress(friendly)
	if err != nil || a.Owner != raw || !a.Bounceable || a.TestOnly || a.Friendly() != friendly {
		t.Errorf("%+v, %v", a, err)
	}
	for _, s := range []string{raw, strings.ToUpper(raw)} {
		if a, err = ton.ParseAddress(s); err != nil || a.Owner != raw || a.Bounceable {
			t.Errorf("%s: %+v, %v", s, a, err)
		}
	}
	for _, x := range []ton.Address{{Owner: raw}, {Owner: raw, TestOnly: true}, {Owner: schemas.Owner("-1:" + raw[2:]), Bounceable: true}} {
		s := x.Friendly()
		if got, err := ton.ParseAddress(s); err != nil || got != x {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, x)
		}
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(s)
		if got, err := ton.ParseAddress(plain); err != nil || got != x {
			t.Errorf("%s: %+v, %v", plain, got, err)
		}
	}
	for _, s := range []string{"", "0:12", raw + "0", "1" + raw, friendly[:47], friendly[:47] + "5", "EQ" + friendly, friendly + "\n"} {
		if a, err := ton.ParseAddress(s); err == nil || schemas.KindOf(err) != schemas.KindInvalid {
			t.Errorf("%q: %+v, %v", s, a, err)
		}
	}
	if got := (ton.Address{Owner: "nonsense"}).Friendly(); got != "" {
		t.Errorf("friendly nonsense: %q", got)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{raw, friendly, "-1:" + raw[2:], "0:", "EQ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ton.ParseAddress(s)
		if err != nil {
			return
		}
		if _, err := schemas.ParseOwner(string(a.Owner)); err != nil {
			t.Errorf("%q gives owner %q", s, a.Owner)
		}
		if again, err := ton.ParseAddress(a.Friendly()); err != nil || again != a {
			t.Errorf("%q: %+v, again %+v, %v", s, a, again, err)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Add("")
	f.Add("12:" + strings.Repeat("ab", 32))
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ton.ParseCursor(s); err == nil && c.String() != s {
			t.Errorf("%q gives %q", s, c.String())
		}
	})
}
