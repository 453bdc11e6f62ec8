package access

import (
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
)

// Pass is what a tenant shows, besides proving that it holds its NKey, to get into its account: a statement of the issuer
// that this key is this tenant's. It is no secret without the key, and does not lapse: to shut a tenant out, take its
// account out of the servers' configuration.
func Pass(issuer nkeys.KeyPair, tenant schemas.TenantID, nkey string) (string, error) {
	c := jwt.NewUserClaims(nkey)
	c.Name, c.Audience = string(tenant), string(tenant)
	text, err := c.Encode(issuer)
	if err != nil {
		return "", schemas.Errorf(schemas.KindInvalid, "pass: %w", err)
	}
	return text, nil
}

// ReadPass verifies a pass that the holder of nkey shows, and says whose it is. Anything else is KindDenied.
func ReadPass(text, issuer, nkey string) (schemas.TenantID, error) {
	c, err := jwt.DecodeUserClaims(text) // it verifies the signature
	if err != nil {
		return "", schemas.Errorf(schemas.KindDenied, "no pass: %w", err)
	}
	tenant, err := schemas.ParseTenantID(c.Name)
	if err != nil || c.Issuer != issuer || c.Subject != nkey || c.Audience != c.Name {
		return "", schemas.Errorf(schemas.KindDenied, "the pass is of another issuer or for another key")
	}
	return tenant, nil
}
