//go:build !worker

package cli

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// readLimited reads a file, or standard input for "-", of at most limit bytes.
func readLimited(stdin io.Reader, path string, limit int64) ([]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &schemas.Error{Kind: schemas.KindNotFound, Message: path + " does not exist", Err: err}
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = &schemas.Error{Kind: schemas.KindTooLarge, Message: fmt.Sprintf("%s is longer than %d bytes", path, limit)}
	}
	return b, err
}

// writeWhole writes a file that appears at once, with its new content, or not at all.
func writeWhole(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when the rename below succeeded
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// refuseOverwrite keeps a file that exists unless forced.
func refuseOverwrite(path string, force bool) error {
	if _, err := os.Lstat(path); err == nil && !force {
		return cli.Usagef("%s exists; give --force to replace it", path)
	}
	return nil
}

// indented is JSON for people and version control.
func indented(v any) ([]byte, error) {
	compact, err := schemas.EncodeJSON(v)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 64 << 10

// ReadSigningKey reads an Ed25519 private key: a root key file as 'cocoon keys root' makes it, or PKCS#8 in PEM as openssl
// makes it.
func ReadSigningKey(path string) (ed25519.PrivateKey, error) {
	b, err := readLimited(nil, path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return parseSeed(b)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if private, ok := key.(ed25519.PrivateKey); err == nil && ok {
		return private, nil
	}
	return nil, schemas.FieldError("key", path+" holds no Ed25519 private key")
}

// parseTerm reads a duration that may be given in days: "90d", "12h".
func parseTerm(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 4000 {
			return 0, cli.Usagef("%q is no number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, cli.Usagef("%q is no duration: write 90d or 12h", s)
	}
	return d, nil
}

// parseMoment reads a time, now when empty.
func parseMoment(s string) (time.Time, error) {
	if s == "" {
		return time.Now().UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, cli.Usagef("%q is no time: write 2026-11-22T12:00:00Z", s)
	}
	return t.UTC(), nil
}
