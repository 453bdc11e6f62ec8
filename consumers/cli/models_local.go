package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/consumers/engineserver"
	"github.com/cocoon-network/cocoon/consumers/ggml/gguf"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// DefaultStore is the folder of local models of this user.
func DefaultStore() string {
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = os.TempDir()
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "cocoon", "models")
}

// localName is what a local model may be called.
var localName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// storePath is the file of a local model.
func storePath(store, name string) (string, error) {
	if !localName.MatchString(name) {
		return "", cli.Usagef("a model's name has letters, digits, dots, dashes and underscores, at most 64")
	}
	return filepath.Join(store, name+".gguf"), nil
}

// LocalModel is a model file, for people.
type LocalModel struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	Parameters   uint64 `json:"parameters"`
	Weights      string `json:"weights"`
	Context      int    `json:"context"`
	Chat         bool   `json:"chat"`
	Bytes        int64  `json:"bytes"`
	SHA256       string `json:"sha256,omitempty"`
	Problem      string `json:"problem,omitempty"`
}

// LocalModels are the verbs of `cocoon models` about files on this machine and models in a running engine.
func LocalModels() []*cobra.Command {
	return []*cobra.Command{pullLocal(), modelsList(), modelsShow(), modelsLoad(), modelsUnload()}
}

// inspectModel reads and checks a model file.
func inspectModel(path string) (LocalModel, error) {
	l := LocalModel{Name: strings.TrimSuffix(filepath.Base(path), ".gguf")}
	f, err := os.Open(path)
	if err != nil {
		return l, &schemas.Error{Kind: schemas.KindNotFound, Field: "model", Message: "the file cannot be opened", Err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return l, err
	}
	l.Bytes = info.Size()
	h, err := gguf.Parse(f, l.Bytes)
	if err != nil {
		return l, err
	}
	m, err := gguf.Check(h, l.Bytes)
	if err != nil {
		return l, err
	}
	l.Architecture, l.Parameters, l.Weights = m.Architecture, m.Parameters, m.Weights.String()
	l.Context, l.Chat = m.Context, m.ChatTemplate != ""
	return l, nil
}

func pullLocal() *cobra.Command {
	var name, store string
	cmd := &cobra.Command{
		Use: "pull-local PATH", Short: "Check a GGUF file and copy it into the local store", Args: cobra.ExactArgs(1),
	}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of the model (default the file's)")
	cmd.Flags().StringVar(&store, "store", DefaultStore(), "folder of local models")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := inspectModel(args[0])
		if err != nil {
			return err
		}
		if name != "" {
			l.Name = name
		}
		to, err := storePath(store, l.Name)
		if err != nil {
			return err
		}
		if l.SHA256, err = copyModel(cmd.Context(), args[0], to); err != nil {
			return err
		}
		return cli.One(out, l, showModel)
	}
	return cmd
}

// copyModel copies a file into the store and returns its digest. The name appears only when all of it is on disk.
func copyModel(ctx context.Context, from, to string) (digest string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return "", err
	}
	part, err := os.CreateTemp(filepath.Dir(to), ".part-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(part.Name()) // fails when it was renamed, which is well
	h := sha256.New()
	for err == nil {
		if ctx.Err() != nil {
			err = ctx.Err()
			break
		}
		_, err = io.CopyN(io.MultiWriter(part, h), in, 16<<20)
	}
	if !errors.Is(err, io.EOF) {
		return "", errors.Join(err, part.Close())
	}
	if err := errors.Join(part.Sync(), part.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), os.Rename(part.Name(), to) // committed
}

func modelsList() *cobra.Command {
	var store string
	cmd := &cobra.Command{Use: "ls-local", Short: "List the models of the local store", Args: cobra.NoArgs}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&store, "store", DefaultStore(), "folder of local models")
	cmd.RunE = func(*cobra.Command, []string) error {
		files, err := filepath.Glob(filepath.Join(store, "*.gguf"))
		if err != nil {
			return err
		}
		var list []LocalModel
		for _, f := range files {
			l, err := inspectModel(f)
			if err != nil {
				l.Problem = err.Error()
			}
			list = append(list, l)
		}
		return cli.List(out, list, func(list []LocalModel) cli.Table {
			t := cli.Table{Header: []string{"NAME", "ARCHITECTURE", "PARAMETERS", "WEIGHTS", "CONTEXT", "SIZE", "PROBLEM"}}
			for _, l := range list {
				t.Rows = append(t.Rows, []string{l.Name, l.Architecture, strconv.FormatUint(l.Parameters, 10), l.Weights, strconv.Itoa(l.Context), strconv.FormatInt(l.Bytes, 10), l.Problem})
			}
			return t
		})
	}
	return cmd
}

func modelsShow() *cobra.Command {
	var store string
	cmd := &cobra.Command{Use: "show NAME|PATH", Short: "Describe a model file of the local store, or any other", Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&store, "store", DefaultStore(), "folder of local models")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		path := args[0]
		if local, err := storePath(store, path); err == nil {
			if _, err := os.Stat(local); err == nil {
				path = local
			}
		}
		l, err := inspectModel(path)
		if err != nil {
			return err
		}
		return cli.One(out, l, showModel)
	}
	return cmd
}

func showModel(l LocalModel) [][2]string {
	lines := [][2]string{
		{"name", l.Name},
		{"architecture", l.Architecture},
		{"parameters", strconv.FormatUint(l.Parameters, 10)},
		{"weights", l.Weights},
		{"context", strconv.Itoa(l.Context)},
		{"chat", strconv.FormatBool(l.Chat)},
		{"bytes", strconv.FormatInt(l.Bytes, 10)},
	}
	if l.SHA256 != "" {
		lines = append(lines, [2]string{"sha256", l.SHA256})
	}
	return lines
}

func modelsLoad() *cobra.Command {
	return modelsOrder("load", "Load a local model into a running engine", func(ctx context.Context, engine, name string) (any, error) {
		var m engineserver.Model
		err := tellEngine(ctx, engine, "/models/load", name, &m)
		return m, err
	})
}

func modelsUnload() *cobra.Command {
	return modelsOrder("unload", "Drain a model of a running engine and free it", func(ctx context.Context, engine, name string) (any, error) {
		return map[string]string{"unloaded": name}, tellEngine(ctx, engine, "/models/unload", name, &struct{}{})
	})
}

// modelsOrder is a verb that tells a running engine something.
func modelsOrder(use, short string, do func(ctx context.Context, engine, name string) (any, error)) *cobra.Command {
	var engine string
	cmd := &cobra.Command{Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1)}
	out := cli.OutputFlags(cmd)
	cmd.Flags().StringVar(&engine, "engine", "http://127.0.0.1:8000", "address of \"cocoon engine --admin\": http://host:port or unix:/path")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := storePath("", args[0]); err != nil {
			return err
		}
		v, err := do(cmd.Context(), engine, args[0])
		if err != nil {
			return err
		}
		return cli.One(out, v, func(any) [][2]string { return [][2]string{{use + "ed", args[0]}} })
	}
	return cmd
}

// tellEngine posts {"model": name} to an engine.
func tellEngine(ctx context.Context, engine, path, name string, into any) error {
	const most, patience = 1 << 20, 10 * time.Minute
	transport := &http.Transport{}
	if socket, ok := strings.CutPrefix(engine, "unix:"); ok {
		engine = "http://engine"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
	}
	defer transport.CloseIdleConnections()
	b, err := json.Marshal(map[string]string{"model": name})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(engine, "/")+path, bytes.NewReader(b))
	if err != nil {
		return cli.Usagef("--engine: %w", err)
	}
	client := http.Client{Transport: transport, Timeout: patience}
	resp, err := client.Do(r)
	if err != nil {
		return &schemas.Error{Kind: schemas.KindUnavailable, Message: "the engine cannot be reached", Err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		return json.Unmarshal(text, into)
	}
	var problem struct {
		Error struct{ Message, Code string }
	}
	if json.Unmarshal(text, &problem) != nil {
		return fmt.Errorf("the engine answered %s", resp.Status)
	}
	kind, err := schemas.ParseKind(problem.Error.Code)
	if err != nil {
		kind = schemas.KindEngine
	}
	return &schemas.Error{Kind: kind, Message: problem.Error.Message}
}
