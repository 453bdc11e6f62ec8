package ton

import (
	"strings"

	"github.com/xssnick/tonutils-go/address"

	"github.com/cocoon-network/cocoon/schemas"
)

// Address is an address as people write it, with what the user-friendly form says besides.
type Address struct {
	schemas.Owner
	// Bounceable asks senders to have refused money sent back. The raw form says nothing and counts as not bounceable.
	Bounceable bool
	// TestOnly marks addresses that are not meant for mainnet.
	TestOnly bool
}

// ParseAddress reads either form of an address: raw ("0:" and 64 hex digits) or user-friendly (48 characters of base64,
// ordinary or for URLs, with a checksum).
func ParseAddress(s string) (Address, error) {
	if strings.Contains(s, ":") {
		owner, err := schemas.ParseOwner(strings.ToLower(s))
		return Address{Owner: owner}, err
	}
	s = strings.NewReplacer("+", "-", "/", "_").Replace(s)
	a, err := address.ParseAddr(s)
	if err != nil || a.String() != s { // the decoder skips line breaks, and reads flags that mean nothing
		return Address{}, schemas.FieldError("address", "must be a TON address, raw or user-friendly; its checksum does not hold")
	}
	owner, err := schemas.ParseOwner(a.StringRaw())
	if err != nil {
		return Address{}, err
	}
	return Address{Owner: owner, Bounceable: a.IsBounceable(), TestOnly: a.IsTestnetOnly()}, nil
}

// Friendly spells the address in its user-friendly form. It is empty for an invalid owner.
func (a Address) Friendly() string {
	parsed, err := toAddress(a.Owner)
	if err != nil {
		return ""
	}
	return parsed.Bounce(a.Bounceable).Testnet(a.TestOnly).String()
}

// toAddress turns an owner into the library's type.
func toAddress(o schemas.Owner) (*address.Address, error) {
	if _, err := schemas.ParseOwner(string(o)); err != nil {
		return nil, err
	}
	a, err := address.ParseRawAddr(string(o))
	if err != nil {
		return nil, schemas.FieldError("address", "must be a raw TON address")
	}
	return a, nil
}

// toOwner is the inverse of toAddress. Anything but a standard address, such as none, becomes the empty owner.
func toOwner(a *address.Address) schemas.Owner {
	if a == nil || a.Type() != address.StdAddress {
		return ""
	}
	return schemas.Owner(a.StringRaw())
}
