package weights_test

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/weights"
	"github.com/cocoon-network/cocoon/schemas"
)

// bundle is one sealed model.
type bundle struct {
	files   fstest.MapFS
	private hpke.PrivateKey
	sealed  weights.Sealed
	raw     []byte
}

// setup seals a model of three files, one of them larger than a frame.
func setup(t testing.TB) bundle {
	t.Helper()
	b := bundle{files: fstest.MapFS{
		"config.json":       {Data: []byte(`{"layers":2}`)},
		"model.gguf":        {Data: bytes.Repeat([]byte("secret weights. "), (2*weights.FrameSize+4096)/16)},
		"tokenizer/vocab.a": {Data: nil},
	}}
	var err error
	if b.private, err = hpke.MLKEM768X25519().GenerateKey(); err != nil {
		t.Fatal(err)
	}
	public := b.private.PublicKey().Bytes()
	var out bytes.Buffer
	to := schemas.WeightsKey{V: 1, Key: schemas.KeyIDOf(public), Suite: schemas.Suite, PublicKey: public}
	if b.sealed, err = weights.Seal(t.Context(), &out, b.files, "tiny", "1", to); err != nil {
		t.Fatal(err)
	}
	b.raw = out.Bytes()
	if int(b.sealed.Package) != len(b.raw) {
		t.Fatalf("package has %d bytes, Seal said %d", len(b.raw), b.sealed.Package)
	}
	return b
}

// extract opens a package as an admitted worker would.
func (b bundle) extract(t testing.TB, raw []byte, dir string) error {
	t.Helper()
	p, err := weights.Read(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	enc, wrapped := p.Wrapped()
	key, err := enclave.UnwrapWeightKey(b.private, p.Model(), enc, wrapped)
	if err != nil {
		return err
	}
	_, err = p.Extract(t.Context(), key, dir)
	return err
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if bytes.Contains(b.raw, []byte("secret weights")) || bytes.Contains(b.raw, []byte("tokenizer")) {
		t.Fatal("the package shows its content")
	}
	dir := t.TempDir()
	if err := b.extract(t, b.raw, dir); err != nil {
		t.Fatal(err)
	}
	for path, f := range b.files {
		got, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil || !bytes.Equal(got, f.Data) {
			t.Errorf("%s differs: %v", path, err)
		}
	}
	_, root, err := weights.Root(t.Context(), os.DirFS(dir))
	if err != nil || root != b.sealed.Root {
		t.Errorf("root %s, %v", root, err)
	}
}

// TestTampered changes a byte at every place that matters, cuts the package everywhere and expects an empty folder.
func TestTampered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	check := func(name string, raw []byte) {
		dir := t.TempDir()
		err := b.extract(t, raw, dir)
		if err == nil {
			t.Errorf("%s was accepted", name)
		} else if schemas.KindOf(err) == schemas.KindUnknown {
			t.Errorf("%s: %v has no kind", name, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%s left %d files behind", name, len(entries))
		}
	}
	step := len(b.raw)/97 + 1
	for i := 0; i < len(b.raw); i += step {
		changed := bytes.Clone(b.raw)
		changed[i] ^= 1
		check("a changed byte", changed)
		check("a cut package", b.raw[:i])
	}
	for i := range 1300 { // every byte of magic and head
		if i%13 == 0 {
			changed := bytes.Clone(b.raw)
			changed[i] ^= 0x80
			check("a changed head", changed)
		}
	}
	const frame = weights.FrameSize + 16
	files, _, err := weights.Root(t.Context(), b.files)
	if err != nil {
		t.Fatal(err)
	}
	body := len(b.raw) - 3*16 - int(b.sealed.Bytes) - 4 - len(schemas.EncodeCBOR(files))
	swapped := bytes.Clone(b.raw)
	copy(swapped[body:], b.raw[body+frame:body+2*frame])
	copy(swapped[body+frame:], b.raw[body:body+frame])
	check("swapped frames", swapped)
}

func TestWrongModel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, err := weights.Read(bytes.NewReader(b.raw))
	if err != nil {
		t.Fatal(err)
	}
	enc, wrapped := p.Wrapped()
	other := schemas.ModelRef{Name: "tiny", Revision: "2", Root: b.sealed.Root}.ID()
	if _, err := enclave.UnwrapWeightKey(b.private, other, enc, wrapped); !errors.Is(err, schemas.KindSealed) {
		t.Errorf("the key opened for another model: %v", err)
	}
	if _, err := p.Extract(t.Context(), [32]byte{1}, t.TempDir()); !errors.Is(err, schemas.KindSealed) {
		t.Errorf("the package opened with another key: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "planted"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.extract(t, b.raw, dir); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("a folder with a planted file was used: %v", err)
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dir := t.TempDir()
	files, err := weights.Copy(t.Context(), b.files, b.sealed.Model, dir)
	if err != nil || len(files) != 3 || weights.RootOf(files) != b.sealed.Root {
		t.Fatalf("%v, %v", files, err)
	}
	changed := fstest.MapFS{"config.json": b.files["config.json"], "model.gguf": {Data: []byte("other")}, "tokenizer/vocab.a": {}}
	empty := t.TempDir()
	if _, err := weights.Copy(t.Context(), changed, b.sealed.Model, empty); !errors.Is(err, schemas.KindCorrupt) {
		t.Errorf("other weights were accepted: %v", err)
	}
	if entries, _ := os.ReadDir(empty); len(entries) != 0 {
		t.Error("refused weights were left behind")
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := filepath.Join(t.TempDir(), "tiny.cocoon")
	if err := os.WriteFile(path, b.raw, 0o600); err != nil {
		t.Fatal(err)
	}
	breaks := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if breaks < 2 && r.URL.Path == "/broken" {
			breaks++
			w.Header().Set("Content-Length", "9999999")
			if r.Header.Get("Range") != "" {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.raw))
				return
			}
			w.Write(b.raw[:100_000])
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/none" {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.raw))
	}))
	defer server.Close()
	sources := weights.DefaultSources()
	for _, locations := range [][]string{
		{"file://" + path}, {server.URL + "/whole"}, {server.URL + "/none", "object:none", server.URL + "/broken"},
	} {
		r, err := sources.Open(t.Context(), locations)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, b.raw) {
			t.Errorf("%v: %d bytes, %v", locations, len(got), err)
		}
	}
	for location, kind := range map[string]schemas.Kind{
		"file://" + path + ".none": schemas.KindNotFound, server.URL + "/none": schemas.KindNotFound,
		"object:x": schemas.KindUnsupported, "file:relative": schemas.KindInvalid,
	} {
		if _, err := sources.Open(t.Context(), []string{location}); !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %s", location, err, kind)
		}
	}
	if _, err := sources.Open(t.Context(), nil); !errors.Is(err, schemas.KindNotFound) {
		t.Errorf("no location: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	b := setup(f)
	f.Add(b.raw[:2000])
	f.Add([]byte(weights.Magic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := weights.Read(bytes.NewReader(raw))
		if err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		if !bytes.HasPrefix(raw, p.EncodeHead()) {
			t.Error("the head encodes again as something else")
		}
		if _, err := p.Extract(t.Context(), [32]byte{}, t.TempDir()); err == nil {
			t.Error("a package opened with a key that nobody made")
		}
	})
}

// FuzzIndex: a list of files that is read encodes again to the same bytes.
func FuzzIndex(f *testing.F) {
	f.Add(weights.EncodeIndex([]weights.File{{Path: "a/b", Size: 1, Hash: schemas.HashOf(nil)}, {Path: "c", Size: 2}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		files, err := weights.ReadIndex(bytes.NewReader(raw))
		if err != nil {
			if schemas.KindOf(err) == schemas.KindUnknown {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		if !bytes.HasPrefix(raw, weights.EncodeIndex(files)) {
			t.Error("the list encodes again as something else")
		}
	})
}

// TestPaths: a list of files that would write outside its folder, or over itself, is refused before a byte is written.
func TestPaths(t *testing.T) {
	t.Parallel()
	private, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public := private.PublicKey().Bytes()
	to := schemas.WeightsKey{V: 1, Key: schemas.KeyIDOf(public), Suite: schemas.Suite, PublicKey: public}
	for _, paths := range [][]string{
		{"../escape"}, {"/absolute"}, {"a/../b"}, {"."}, {""}, {"b", "a"}, {"a", "a"}, {"a", "a/b"}, {strings.Repeat("a", weights.MaxPath+1)},
	} {
		var files []weights.File
		for _, path := range paths {
			files = append(files, weights.File{Path: path, Size: 1, Hash: schemas.HashOf([]byte("x"))})
		}
		dir := t.TempDir()
		inside := filepath.Join(dir, "inside")
		err := bundle{private: private}.extract(t, weights.Forge(t, files, []byte(strings.Repeat("x", len(files))), to), inside)
		if !errors.Is(err, schemas.KindInvalid) {
			t.Errorf("%q: %v", paths, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 1 {
			t.Errorf("%q wrote outside its folder", paths)
		}
		if entries, err := os.ReadDir(inside); err != nil || len(entries) != 0 {
			t.Errorf("%q wrote something", paths)
		}
	}
}
