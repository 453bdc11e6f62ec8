package access_test

import (
	"errors"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams/access"
)

// pair makes a key pair and its public half.
func pair(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	k, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return k, public
}

// TestPass: a pass says whose it is to the issuer that made it, for the key that it was made for, and to nobody else.
func TestPass(t *testing.T) {
	t.Parallel()
	issuer, issuerKey := pair(t, nkeys.CreateAccount)
	stranger, _ := pair(t, nkeys.CreateAccount)
	_, mine := pair(t, nkeys.CreateUser)
	_, other := pair(t, nkeys.CreateUser)
	tenant := schemas.NewTenantID()
	good, err := access.Pass(issuer, tenant, mine)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := access.ReadPass(good, issuerKey, mine); err != nil || got != tenant {
		t.Fatalf("%s %v", got, err)
	}
	forged, err := access.Pass(stranger, tenant, mine)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := jwt.NewUserClaims(mine)
	elsewhere.Name, elsewhere.Audience = string(tenant), access.AccountServices
	crossed, err := elsewhere.Encode(issuer)
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := access.Pass(issuer, "APP", mine)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ text, key string }{
		"of another issuer":     {forged, mine},
		"of another's key":      {good, other},
		"for another account":   {crossed, mine},
		"of somebody no tenant": {nobody, mine},
		"that was changed":      {good[:len(good)-2] + "AA", mine},
		"that is no pass":       {"x", mine},
		"that is empty":         {"", mine},
	} {
		if got, err := access.ReadPass(c.text, issuerKey, c.key); !errors.Is(err, schemas.KindDenied) {
			t.Errorf("a pass %s: %q %v", what, got, err)
		}
	}
	if _, err := access.Pass(issuer, tenant, issuerKey); !errors.Is(err, schemas.KindInvalid) {
		t.Errorf("a pass for a key that is no user's: %v", err)
	}
}
