package enclave

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"encoding/json"

	"github.com/cocoon-network/cocoon/schemas"
)

// tenantForm names the identity file's version.
const tenantForm = "tenant-identity/v1"

// maxTenantFile bounds an identity file in bytes.
const maxTenantFile = 4 << 10

// maxReplySecrets bounds the decapsulated reply secrets that a tenant keeps: one serves up to
// schemas.MaxPerEncapsulation results.
const maxReplySecrets = 256

// Tenant is who submits, pays and reads. Everything a tenant ever needs follows from its id and one root secret, so two
// machines with the same identity file are the same tenant. It is safe for concurrent use.
type Tenant struct {
	id         schemas.TenantID
	root       [secretSize]byte
	sign       ed25519.PrivateKey
	reply      hpke.PrivateKey
	public     []byte       // of reply
	kid        [16]byte     // of reply
	secrets    *secretCache // reply secrets by encapsulation
	signatures Signatures   // of brokers and workers
}

// NewTenant makes a tenant with a random id and root secret.
func NewTenant() (*Tenant, error) {
	var root [secretSize]byte
	rand.Read(root[:])
	return newTenant(schemas.NewTenantID(), root)
}

// newTenant derives a tenant's keys.
func newTenant(id schemas.TenantID, root [secretSize]byte) (*Tenant, error) {
	seed := expand(root[:], "cocoon/tenant-sign/v1")
	ikm := expand(root[:], "cocoon/tenant-reply/v1")
	reply, err := kem().DeriveKeyPair(ikm[:])
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "derive the reply key: %w", err)
	}
	return &Tenant{
		id: id, root: root, sign: ed25519.NewKeyFromSeed(seed[:]), reply: reply,
		public: reply.PublicKey().Bytes(), kid: kidOf(reply.PublicKey().Bytes()), secrets: newSecretCache(maxReplySecrets),
	}, nil
}

// tenantFile is the identity file.
type tenantFile struct {
	Form   string           `json:"form"`
	Tenant schemas.TenantID `json:"tenant"`
	// Key is the public signing key; it must follow from the root, which makes a damaged file recognisable.
	Key []byte `json:"key"`
	// Root is the secret; json writes it in base64.
	Root []byte `json:"root"`
}

// Marshal spells the identity file. It holds the root secret: keep it as you keep the tenant's money and answers.
func (t *Tenant) Marshal() []byte {
	b, err := json.MarshalIndent(tenantFile{tenantForm, t.id, t.Public(), t.root[:]}, "", "  ")
	if err != nil {
		panic("enclave: a file of strings must encode: " + err.Error())
	}
	return append(b, '\n')
}

// ParseTenant reads an identity file strictly.
func ParseTenant(b []byte) (*Tenant, error) {
	var f tenantFile
	if err := schemas.DecodeJSON(b, &f, maxTenantFile); err != nil {
		return nil, err
	}
	if f.Form != tenantForm {
		return nil, schemas.FieldError("form", "must be "+tenantForm)
	}
	if _, err := schemas.ParseTenantID(string(f.Tenant)); err != nil {
		return nil, err
	}
	if len(f.Root) != secretSize {
		return nil, schemas.FieldError("root", "must be 32 bytes in base64")
	}
	t, err := newTenant(f.Tenant, [secretSize]byte(f.Root))
	if err != nil {
		return nil, err
	}
	if !t.Public().Equal(ed25519.PublicKey(f.Key)) {
		return nil, &schemas.Error{Kind: schemas.KindCorrupt, Field: "key", Message: "does not follow from root: the file is damaged"}
	}
	return t, nil
}

// ID is the tenant's id on the wire.
func (t *Tenant) ID() schemas.TenantID { return t.id }

// Public is the key that verifies the tenant's spend authorisations; it is registered with the tenant's account.
func (t *Tenant) Public() ed25519.PublicKey { return t.sign.Public().(ed25519.PublicKey) }

// JobID derives the job id for an idempotency key: the same key is the same job, on every machine of the tenant, and
// nobody without the root secret can tell which key a job id belongs to.
func (t *Tenant) JobID(key string) schemas.JobID {
	derived := expand(t.root[:], "cocoon/job-id/v1", []byte(key))
	return schemas.JobIDFrom([16]byte(derived[:16]))
}

// Derive makes a key for the tenant's own use, such as its local files or a cache salt. It never leaves the tenant.
func (t *Tenant) Derive(label string) [32]byte {
	return expand(t.root[:], "cocoon/tenant-derive/v1", []byte(label))
}

// encapsulated is the secret that a worker encapsulated to the reply key.
func (t *Tenant) encapsulated(enc []byte) ([secretSize]byte, error) {
	return t.secrets.get(enc, func() ([secretSize]byte, error) { return decapsulate(enc, t.reply, t.kid, purposeResult) })
}

// replySecret is the per-job secret that is mixed into the result's key.
func (t *Tenant) replySecret(job schemas.JobID) [secretSize]byte {
	return expand(t.root[:], "cocoon/reply-secret/v1", []byte(job))
}
