package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/consumers/enginetest"
	"github.com/cocoon-network/cocoon/consumers/ggml/tiny"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// playEngine makes the test binary `cocoon engine`.
const playEngine = "COCOON_TEST_PLAY_ENGINE"

// TestMain is also the program that OpenChild starts.
func TestMain(m *testing.M) {
	if os.Getenv(playEngine) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root := &cobra.Command{Use: "cocoon", SilenceUsage: true}
	root.AddCommand(Engine(tiny.FS()))
	root.SetArgs(os.Args[1:])
	os.Exit(cli.ExitCode(root.ExecuteContext(ctx)))
}

// program is a script that runs the test binary as the program: a child does not inherit our environment.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cocoon")
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec %s \"$@\"\n", playEngine, os.Args[0])
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// weightsDir is a folder with the tiny model.
func weightsDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	b, err := fs.ReadFile(tiny.FS(), tiny.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, tiny.File), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

const question = "Translate to French: the red cat sleeps"

// TestOpenChild: the engine of a worker is a process of its own. Killed in the middle of 16 requests, it comes back; the
// requests fail as ones that may run again, and do.
func TestOpenChild(t *testing.T) {
	t.Parallel()
	open := OpenChild(ChildOptions{Program: program(t), Slots: 16, Threads: 1})
	e, err := open(t.Context(), weightsDir(t), schemas.Model{ID: "cocoon-tiny@1:x", Context: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if i, err := e.Info(t.Context()); err != nil || i.Model != "cocoon-tiny@1:x" || i.Slots != 16 || i.Flavour != "cocoon" {
		t.Errorf("%+v %v", i, err)
	}
	body := enginetest.Chat("m", question)
	if a := enginetest.Ask(t, e, body); a.Text() != "le chat rouge dort" {
		t.Errorf("%q", a.Text())
	}
	long := &consumers.Request{URL: consumers.PathChat, Body: body.With("stream", true).With("ignore_eos", true).With("max_completion_tokens", 450).JSON(t)}
	var running sync.WaitGroup
	var ended sync.WaitGroup
	for range 16 {
		running.Add(1)
		ended.Go(func() {
			s, err := e.Submit(t.Context(), long)
			if err == nil {
				_, err = s.Next()
				defer s.Close()
			}
			running.Done()
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := enginetest.Read(s); !schemas.Retriable(err) {
				t.Errorf("a request of a killed engine: %v", err)
			}
		})
	}
	running.Wait()
	pid, _ := e.(*child).Process()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended.Wait()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if a, err := enginetest.TryAsk(t, e, body); err == nil && a.Text() == "le chat rouge dort" {
			break
		} else if !schemas.Retriable(err) || time.Now().After(deadline) {
			t.Fatalf("after the restart: %v", err)
		}
		time.Sleep(10 * time.Millisecond) // what a worker does whose engine is unavailable
	}
}

// TestOpenChildRefused: a model that cannot be loaded is an error, not a wait.
func TestOpenChildRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "m.gguf"), []byte("GGUFnonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	_, err := OpenChild(ChildOptions{Program: program(t), Output: &log})(t.Context(), dir, schemas.Model{ID: "m"})
	if schemas.KindOf(err) != schemas.KindUnavailable {
		t.Errorf("%v", err)
	}
	if !strings.Contains(log.String(), "GGUF version") {
		t.Errorf("the child does not say why: %s", log.String())
	}
}

// verb runs a verb and returns what it prints.
func verb(ctx context.Context, cmd *cobra.Command, args ...string) (string, error) {
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

// models is `cocoon models` with its local verbs.
func models() *cobra.Command {
	cmd := &cobra.Command{Use: "models"}
	cmd.AddCommand(LocalModels()...)
	return cmd
}

func TestLocalModels(t *testing.T) {
	t.Parallel()
	dir, store := weightsDir(t), filepath.Join(t.TempDir(), "store")
	out, err := verb(t.Context(), models(), "pull-local", filepath.Join(dir, tiny.File), "--name", "small", "--store", store, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var l LocalModel
	if err := json.Unmarshal([]byte(out), &l); err != nil || l.SHA256 != "a3a3429688c3e0ce3ff2dcb1be6fb735298e7cb3b8a7ca7a4121abf0524b5647" || l.Parameters != 1820352 || !l.Chat {
		t.Errorf("%s %v", out, err)
	}
	if err := os.WriteFile(filepath.Join(store, "broken.gguf"), []byte("GGUF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err = verb(t.Context(), models(), "ls-local", "--store", store); err != nil || !strings.Contains(out, "small") || !strings.Contains(out, "corrupt") {
		t.Errorf("%s %v", out, err)
	}
	if out, err = verb(t.Context(), models(), "show", "small", "--store", store); err != nil || !strings.Contains(out, "llama") {
		t.Errorf("%s %v", out, err)
	}
	for _, args := range [][]string{
		{"pull-local", filepath.Join(store, "broken.gguf"), "--store", store},
		{"pull-local", "/no/such/file", "--store", store},
		{"pull-local", filepath.Join(dir, tiny.File), "--name", "../evil", "--store", store},
		{"show", "nothing", "--store", store},
	} {
		if out, err := verb(t.Context(), models(), args...); err == nil {
			t.Errorf("%v: %s", args, out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(store, ".part-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestEngineVerb: the verb serves the built-in model, loads and unloads others, and ends in peace.
func TestEngineVerb(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "ev")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket, store := filepath.Join(dir, "s"), weightsDir(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := verb(ctx, Engine(tiny.FS()), "--listen", "unix:"+socket, "--admin", "--store", store, "--slots", "2", "--threads", "1")
		done <- err
	}()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	for {
		if resp, err := client.Get("http://engine/health"); err == nil {
			resp.Body.Close()
			break
		}
		time.Sleep(5 * time.Millisecond) // until it listens
	}
	out, err := verb(t.Context(), models(), "load", "cocoon-tiny", "--engine", "unix:"+socket)
	if err != nil {
		t.Errorf("%s %v", out, err)
	}
	if _, err := verb(t.Context(), models(), "load", "missing", "--engine", "unix:"+socket); schemas.KindOf(err) != schemas.KindNotFound {
		t.Errorf("%v", err)
	}
	if _, err := verb(t.Context(), models(), "unload", "cocoon-tiny", "--engine", "unix:"+socket); err != nil {
		t.Error(err)
	}
	if _, err := verb(t.Context(), models(), "unload", "cocoon-tiny", "--engine", "unix:"+socket); schemas.KindOf(err) != schemas.KindUnknownModel {
		t.Errorf("%v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{
		{"--listen", "127.0.0.1:0", "--trusted"},
		{"--listen", "unix:" + socket, "--key-file", "/no/such/file"},
		{"--listen", "unix:" + socket, "--model", "/no/such/model"},
		{"extra"},
	} {
		if _, err := verb(t.Context(), Engine(nil), args...); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
