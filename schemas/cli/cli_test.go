package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/schemas"
)

func TestExitCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("any"), 1},
		{Usagef("unknown flag %s", "--x"), 2},
		{fmt.Errorf("batch: %w", &PartialError{Done: 3, Failed: 1}), 3},
		{schemas.Errorf(schemas.KindNotFound, "no such job"), 4},
		{&schemas.Error{Kind: schemas.KindUnknownModel}, 4},
		{fmt.Errorf("worker: %w", schemas.Errorf(schemas.KindPolicy, "not admitted")), 5},
		{schemas.Errorf(schemas.KindAttestation, "bad quote"), 5},
		{fmt.Errorf("up: %w", context.Canceled), 130},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("ExitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

// workerConfig stands for the configuration of a verb.
type workerConfig struct {
	MaxBatch int           `koanf:"max_batch"`
	Drain    time.Duration `koanf:"drain"`
	Models   []string      `koanf:"models"`
	NATS     struct {
		URL string `koanf:"url"`
	} `koanf:"nats"`
}

// load runs a verb with the given flags and returns what it loaded.
func load(t *testing.T, args ...string) (workerConfig, error) {
	t.Helper()
	cfg := workerConfig{MaxBatch: 8, Drain: time.Minute}
	cmd := &cobra.Command{Use: "worker", SilenceUsage: true, SilenceErrors: true}
	cmd.Flags().String(ConfigFlag, "", "")
	cmd.Flags().Int("max-batch", 8, "")
	cmd.Flags().Duration("drain", time.Minute, "")
	cmd.Flags().StringSlice("models", nil, "")
	cmd.Flags().Bool("unrelated", false, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return Load(cmd, "worker", &cfg) }
	cmd.SetArgs(args)
	err := cmd.Execute()
	return cfg, err
}

// writeConfig writes a configuration file.
func writeConfig(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cocoon.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadOrder(t *testing.T) {
	file := writeConfig(t, "worker:\n  max_batch: 16\n  drain: 5s\n  models: [a, b]\n  nats: {url: nats://file}\n")
	t.Setenv("COCOON_WORKER__DRAIN", "7s")
	t.Setenv("COCOON_WORKER__NATS__URL", "nats://env")
	t.Setenv("COCOON_TEST_SOMETHING", "is not configuration")
	got, err := load(t, "--config", file, "--max-batch", "32", "--unrelated")
	if err != nil {
		t.Fatal(err)
	}
	want := workerConfig{MaxBatch: 32, Drain: 7 * time.Second, Models: []string{"a", "b"}}
	want.NATS.URL = "nats://env"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("flag over environment over file over default (-want +got):\n%s", d)
	}
}

func TestLoadDefaults(t *testing.T) {
	got, err := load(t)
	if err != nil {
		t.Fatal(err)
	}
	if got.MaxBatch != 8 || got.Drain != time.Minute {
		t.Errorf("defaults were lost: %+v", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct{ name, file, env, names string }{
		{"unknown key", "worker: {max_bach: 1}", "", "max_bach"},
		{"unknown nested key", "worker: {nats: {uri: x}}", "", "uri"},
		{"unknown section", "workers: {max_batch: 1}", "", "workers"},
		{"unknown environment key", "", "COCOON_WORKER__NOPE", "nope"},
		{"wrong type", "worker: {max_batch: many}", "", "max_batch"},
		{"not YAML", "worker: [", "", "cocoon.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv(c.env, "1")
			}
			_, err := load(t, "--config", writeConfig(t, c.file))
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, want a usage error", err)
			}
			if !strings.Contains(err.Error(), c.names) {
				t.Errorf("%q does not name %q", err, c.names)
			}
		})
	}
	if _, err := load(t, "--config", filepath.Join(t.TempDir(), "absent.yaml")); ExitCode(err) != ExitUsage {
		t.Errorf("an absent file gave %v", err)
	}
}

// row is a value that verbs print.
type row struct {
	Name string          `json:"name"`
	Paid schemas.NanoTON `json:"paid"`
}

// render prints rows through a verb with the given flags.
func render(t *testing.T, rows []row, args ...string) (string, error) {
	t.Helper()
	var b bytes.Buffer
	cmd := &cobra.Command{Use: "ls", SilenceUsage: true, SilenceErrors: true}
	cmd.SetOut(&b)
	out := OutputFlags(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		return List(out, rows, func(rows []row) Table {
			table := Table{Header: []string{"NAME", "PAID"}}
			for _, r := range rows {
				table.Rows = append(table.Rows, []string{r.Name, r.Paid.String()})
			}
			return table
		})
	}
	cmd.SetArgs(args)
	err := cmd.Execute()
	return b.String(), err
}

func TestList(t *testing.T) {
	t.Parallel()
	rows := []row{{"worker-1", 1_500_000_000}, {"bad\x1b[31mname", 1}}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "NAME          PAID\nworker-1      1.5 TON\nbad\uFFFD[31mname  0.000000001 TON\n"},
		{[]string{"-o", "jsonl"}, "{\"name\":\"worker-1\",\"paid\":\"1500000000\"}\n{\"name\":\"bad\\u001b[31mname\",\"paid\":\"1\"}\n"},
	} {
		got, err := render(t, rows, c.args...)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%v (-want +got):\n%s", c.args, d)
		}
	}
	if got, err := render(t, nil, "--json"); err != nil || got != "[]\n" {
		t.Errorf("an empty list printed %q, %v", got, err)
	}
	if _, err := render(t, rows, "-o", "yaml"); ExitCode(err) != ExitUsage {
		t.Errorf("an unknown format gave %v", err)
	}
}
