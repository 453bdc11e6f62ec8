package access

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
)

// Names of the files in a folder of keys. Each user has a folder of its own with what it needs to log in, so that it can
// be handed over, or mounted, as a whole.
const (
	// FileContext says how to log in: NATS_CONTEXT takes its path. FileUser is the seed of the user's key.
	FileContext, FileUser = "nats.json", "user.nk"
	// FileCA is the authority of the servers and the clients, in every user's folder and beside the server's files.
	FileCA, fileCAKey = "ca.crt", "ca.key"
	// FileCert and FileKey are a certificate with its key: in a user's folder for the client, in the server's for the server.
	FileCert, FileKey = "tls.crt", "tls.key"
	// FileIssuer and FileXKey, in the callout's folder, are the seeds of the account key that signs the users of attested
	// workers and the passes of tenants, and of the curve key that log-ins are encrypted to.
	FileIssuer, FileXKey = "issuer.nk", "xkey.nk"
	// FolderServer has the server's certificate, FolderSystem and FolderCallout the users of those names.
	FolderServer, FolderSystem, FolderCallout = "server", "system", "callout"
)

// Keys is a folder with all keys of a production network's message system: of the servers, of every role and of the
// tenants. Who has the folder is the network's operator; the servers themselves need only the public halves, which
// [Keys.Network] reads, and the folder "server".
type Keys struct {
	dir string
}

// OpenKeys names a folder of keys; nothing is read or written yet.
func OpenKeys(dir string) Keys { return Keys{dir} }

// KeysOptions say what a folder of keys is made for.
type KeysOptions struct {
	// URL is where clients reach the servers, such as "tls://a.example:4222,tls://b.example:4222". Required.
	URL string
	// Hosts are the names and addresses in the server's certificate. Required.
	Hosts []string
}

// Make writes what the folder does not have yet: keys of every service, of the callout service and of the system account, an
// authority, and certificates for the servers and each user. What exists is never overwritten, so a second call with
// the same folder changes nothing; delete a certificate to have it made again.
func (k Keys) Make(o KeysOptions) error {
	if o.URL == "" || strings.ContainsAny(o.URL, " \"\\") {
		return schemas.FieldError("url", "must say where clients reach the servers")
	}
	if len(o.Hosts) == 0 {
		return schemas.FieldError("hosts", "must have the names of the servers")
	}
	ca, err := openAuthority(k.dir)
	if err != nil {
		return err
	}
	if err := ca.issue(filepath.Join(k.dir, FolderServer), certificate{name: "nats", hosts: o.Hosts, life: serverLife}); err != nil {
		return err
	}
	for _, folder := range k.users() {
		if err := k.user(ca, folder, context{URL: o.URL}); err != nil {
			return err
		}
	}
	for name, create := range map[string]func() (nkeys.KeyPair, error){FileIssuer: nkeys.CreateAccount, FileXKey: nkeys.CreateCurveKeys} {
		if err := makeSeed(filepath.Join(k.dir, FolderCallout, name), create); err != nil {
			return err
		}
	}
	return nil
}

// users lists the folders of the users that are no tenants.
func (Keys) users() []string {
	folders := []string{FolderSystem, FolderCallout, string(RoleHost)}
	for _, role := range Services() {
		folders = append(folders, string(role))
	}
	return folders
}

// AddTenant makes the folder of a tenant, with what it logs in with, unless it exists, and returns it. The servers know the
// tenant once they have reloaded a configuration that was printed after it.
func (k Keys) AddTenant(id schemas.TenantID) (folder string, err error) {
	if _, err := schemas.ParseTenantID(string(id)); err != nil {
		return "", err
	}
	operator, err := os.ReadFile(filepath.Join(k.dir, string(RoleOperator), FileContext))
	if err != nil {
		return "", schemas.Errorf(schemas.KindNotFound, "%s has no keys of a network; make them first: %w", k.dir, err)
	}
	var c context
	if err := json.Unmarshal(operator, &c); err != nil {
		return "", schemas.Errorf(schemas.KindCorrupt, "the operator's context: %w", err)
	}
	ca, err := openAuthority(k.dir)
	if err != nil {
		return "", err
	}
	folder = filepath.Join(k.dir, string(id))
	if err := makeSeed(filepath.Join(folder, FileUser), nkeys.CreateUser); err != nil {
		return "", err
	}
	public, err := k.public(string(id), FileUser)
	if err != nil {
		return "", err
	}
	issuer, err := k.pair(FolderCallout, FileIssuer)
	if err != nil {
		return "", err
	}
	pass, err := Pass(issuer, id, public)
	if err != nil {
		return "", err
	}
	return folder, k.user(ca, string(id), context{URL: c.URL, Token: pass})
}

// context is a context of the nats command line, as streams.Config reads it. Its paths are relative to itself.
type context struct {
	URL   string `json:"url"`
	Token string `json:"token,omitempty"`
	NKey  string `json:"nkey"`
	CA    string `json:"ca"`
	Cert  string `json:"cert"`
	Key   string `json:"key"`
	Inbox string `json:"inbox_prefix"`
	API   string `json:"jetstream_api_prefix,omitempty"`
}

// user makes the folder of a user; c says where the servers are and what the user shows them.
func (k Keys) user(ca *authority, name string, c context) error {
	dir := filepath.Join(k.dir, name)
	if err := ca.issue(dir, certificate{name: name, life: clientLife}); err != nil {
		return err
	}
	if err := makeSeed(filepath.Join(dir, FileUser), nkeys.CreateUser); err != nil {
		return err
	}
	c.NKey, c.CA, c.Cert, c.Key, c.Inbox = FileUser, FileCA, FileCert, FileKey, Inbox(name)
	if name == string(RoleHost) {
		c.API = APIImported
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "%w", err)
	}
	return writeMissing(filepath.Join(dir, FileContext), append(text, '\n'), 0o600)
}

// Network reads the public halves: what [Production] needs besides the server's own settings. Tenants are the folders whose
// names are ids of tenants.
func (k Keys) Network() (Network, error) {
	n := Network{Services: map[Role]string{}}
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return n, schemas.Errorf(schemas.KindNotFound, "folder of keys: %w", err)
	}
	for _, e := range entries {
		if id, err := schemas.ParseTenantID(e.Name()); err == nil && e.IsDir() {
			n.Tenants = append(n.Tenants, id)
		}
	}
	for _, role := range append(Services(), RoleHost) {
		if n.Services[role], err = k.public(string(role), FileUser); err != nil {
			return n, err
		}
	}
	for _, f := range []struct {
		into         *string
		folder, name string
	}{
		{&n.System, FolderSystem, FileUser},
		{&n.Callout, FolderCallout, FileUser},
		{&n.Issuer, FolderCallout, FileIssuer},
		{&n.XKey, FolderCallout, FileXKey},
	} {
		if *f.into, err = k.public(f.folder, f.name); err != nil {
			return n, err
		}
	}
	return n, n.Check()
}

// pair reads a seed file.
func (k Keys) pair(folder, name string) (nkeys.KeyPair, error) {
	path := filepath.Join(k.dir, folder, name)
	seed, err := os.ReadFile(path)
	if err != nil {
		return nil, schemas.Errorf(schemas.KindNotFound, "folder of keys: %w", err)
	}
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, schemas.Errorf(schemas.KindCorrupt, "%s: %w", path, err)
	}
	return pair, nil
}

// public is the public half of a seed file.
func (k Keys) public(folder, name string) (string, error) {
	pair, err := k.pair(folder, name)
	if err != nil {
		return "", err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return "", schemas.Errorf(schemas.KindCorrupt, "%s/%s: %w", folder, name, err)
	}
	return public, nil
}

// makeSeed writes the seed of a new key, unless there is one.
func makeSeed(path string, create func() (nkeys.KeyPair, error)) error {
	pair, err := create()
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "nkey: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "nkey: %w", err)
	}
	return writeMissing(path, append(seed, '\n'), 0o600)
}

// writeMissing writes a file unless it exists. Commit point: the link, which gives the whole file its name or none.
func writeMissing(path string, content []byte, mode fs.FileMode) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return schemas.Errorf(schemas.KindDenied, "%w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return schemas.Errorf(schemas.KindDenied, "%w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil // another process was faster; its file stands
		}
	}
	if err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "%w", err)
	}
	return nil
}
