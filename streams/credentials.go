package streams

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/cocoon-network/cocoon/schemas"
)

// Environment variables that the tools of NATS share.
const (
	envURL     = "NATS_URL"
	envCreds   = "NATS_CREDS"
	envContext = "NATS_CONTEXT"
)

// maxContextFile bounds the file of a context.
const maxContextFile = 64 << 10

// resolve fills in address and credentials from the environment and from a context of the nats command line.
func resolve(c Config) (Config, error) {
	if c.InProcess != nil {
		return c, nil
	}
	if c.URL == "" && c.Context == "" {
		c.Context = os.Getenv(envContext)
	}
	if c.Context != "" {
		if err := c.readContext(); err != nil {
			return c, err
		}
	}
	if c.URL == "" {
		c.URL = os.Getenv(envURL)
	}
	if c.URL == "" {
		c.URL = nats.DefaultURL
	}
	if c.Creds == "" && c.NKeySeedFile == "" && c.User == "" && c.Token == "" && c.TokenFunc == nil {
		c.Creds = os.Getenv(envCreds)
	}
	return c, nil
}

// natsContext is the part of a context file that is used here. Other fields are for other tools.
type natsContext struct {
	URL       string `json:"url"`
	Token     string `json:"token"`
	User      string `json:"user"`
	Password  string `json:"password"`
	Creds     string `json:"creds"`
	NKey      string `json:"nkey"`
	Cert      string `json:"cert"`
	Key       string `json:"key"`
	CA        string `json:"ca"`
	Inbox     string `json:"inbox_prefix"`
	APIPrefix string `json:"jetstream_api_prefix"`
	TLSFirst  bool   `json:"tls_first"`
}

// readContext takes what is not set from the context's file.
func (c *Config) readContext() error {
	path := c.Context
	if !strings.HasSuffix(path, ".json") {
		dir, err := os.UserConfigDir()
		if err != nil {
			return schemas.Errorf(schemas.KindInvalid, "no configuration folder for context %q: %w", c.Context, err)
		}
		path = filepath.Join(dir, "nats", "context", c.Context+".json")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return schemas.Errorf(schemas.KindNotFound, "context %q: %w", c.Context, err)
	}
	if len(text) > maxContextFile {
		return schemas.Errorf(schemas.KindTooLarge, "context %q: file is longer than 64 KiB", c.Context)
	}
	var f natsContext
	if err := json.Unmarshal(text, &f); err != nil {
		return schemas.Errorf(schemas.KindInvalid, "context %q: %w", c.Context, err)
	}
	for _, file := range []*string{&f.Creds, &f.NKey, &f.Cert, &f.Key, &f.CA} {
		if *file != "" && !filepath.IsAbs(*file) && !strings.HasPrefix(*file, "~") {
			*file = filepath.Join(filepath.Dir(path), *file) // a folder with a context and its files can be moved as a whole
		}
	}
	for _, field := range []struct {
		set  *string
		from string
	}{
		{&c.URL, f.URL},
		{&c.Token, f.Token},
		{&c.User, f.User},
		{&c.Password, f.Password},
		{&c.Creds, f.Creds},
		{&c.NKeySeedFile, f.NKey},
		{&c.CertFile, f.Cert},
		{&c.CertKeyFile, f.Key},
		{&c.CAFile, f.CA},
		{&c.Inbox, f.Inbox},
		{&c.APIPrefix, f.APIPrefix},
	} {
		if *field.set == "" {
			*field.set = field.from
		}
	}
	c.TLSFirst = c.TLSFirst || f.TLSFirst
	return nil
}

// credentials are the options that log in.
func (c Config) credentials() ([]nats.Option, error) {
	switch {
	case c.TokenFunc != nil:
		return c.attested()
	case c.Creds != "":
		return []nats.Option{nats.UserCredentials(c.Creds)}, nil
	case c.NKeySeedFile != "":
		o, err := nats.NkeyOptionFromSeed(c.NKeySeedFile)
		if err != nil {
			return nil, schemas.Errorf(schemas.KindInvalid, "nkey seed file: %w", err)
		}
		if c.Token != "" {
			return []nats.Option{o, nats.Token(c.Token)}, nil
		}
		return []nats.Option{o}, nil
	case c.User != "":
		return []nats.Option{nats.UserInfo(c.User, c.Password)}, nil
	case c.Token != "":
		return []nats.Option{nats.Token(c.Token)}, nil
	}
	return nil, nil
}

// attested logs in with a key of this connection alone and a token made for the server's nonce. The client library
// signs the nonce before it asks for the token, on the same goroutine, for the first connection and every later one.
func (c Config) attested() ([]nats.Option, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "nkey: %w", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "nkey: %w", err)
	}
	var nonce []byte
	sign := func(n []byte) ([]byte, error) {
		nonce = append(nonce[:0], n...)
		return key.Sign(n)
	}
	token := func() string {
		t, err := c.TokenFunc(nonce, public)
		if err != nil {
			c.Logger.Error("no token for the log-in", "error", err)
			return ""
		}
		return t
	}
	return []nats.Option{nats.Nkey(public, sign), nats.TokenHandler(token)}, nil
}

// tls are the options that secure the connection.
func (c Config) tls() []nats.Option {
	var options []nats.Option
	if c.TLS != nil {
		options = append(options, nats.Secure(c.TLS))
	}
	if c.CAFile != "" {
		options = append(options, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		options = append(options, nats.ClientCert(c.CertFile, c.CertKeyFile))
	}
	if c.TLSFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	return options
}
