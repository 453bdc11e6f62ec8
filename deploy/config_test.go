package deploy

import (
	"maps"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	producerscli "github.com/cocoon-network/cocoon/producers/cli"
	"github.com/cocoon-network/cocoon/schemas/cli"
	settlementcli "github.com/cocoon-network/cocoon/settlement/cli"
)

// exampleConfig is the file that operators copy.
const exampleConfig = "cocoon.example.yaml"

// exampleKeys are the keys of a section of the example.
func exampleKeys(t *testing.T, section string) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	o, _ := at(documents(t, exampleConfig, read(t, exampleConfig))[0], section).(object)
	for key := range o {
		keys[key] = true
	}
	return keys
}

// keysOf are the koanf keys of a configuration struct, squashed ones included.
func keysOf(of reflect.Type) map[string]bool {
	keys := map[string]bool{}
	for f := range of.Fields() {
		if tag := f.Tag.Get("koanf"); tag == ",squash" {
			maps.Copy(keys, keysOf(f.Type))
		} else if tag != "" {
			keys[tag] = true
		}
	}
	return keys
}

// differ fails when the example and the program have different keys.
func differ(t *testing.T, section string, program map[string]bool) {
	t.Helper()
	if example := exampleKeys(t, section); !maps.Equal(example, program) {
		t.Errorf("section %s: the example has %v, the program %v", section, slices.Sorted(maps.Keys(example)), slices.Sorted(maps.Keys(program)))
	}
}

// TestExampleConfigLoads loads every section into the program's own struct, and holds it to all of its keys.
func TestExampleConfigLoads(t *testing.T) {
	t.Parallel()
	for section, into := range map[string]any{
		"broker": &enclavecli.BrokerConfig{}, "settle": &settlementcli.Config{},
		"gateway": &producerscli.GatewayConfig{}, "engine": &consumerscli.EngineConfig{},
	} {
		cmd := &cobra.Command{Use: section}
		cmd.Flags().String(cli.ConfigFlag, "", "")
		if err := cmd.Flags().Set(cli.ConfigFlag, exampleConfig); err != nil {
			t.Fatal(err)
		}
		if err := cli.Load(cmd, section, into); err != nil {
			t.Errorf("section %s: %v", section, err)
		}
		differ(t, section, keysOf(reflect.TypeOf(into).Elem()))
	}
}

// TestExampleConfigLoadsInProgram loads the sections whose structs are the program's own through the program: it gets as
// far as a flag that is wrong on purpose and is looked at right after the configuration. Every flag of these verbs is a
// key, but for those that say which network.
func TestExampleConfigLoadsInProgram(t *testing.T) {
	t.Parallel()
	for section, c := range map[string]struct {
		wrong  []string // flags that are refused once the configuration is loaded
		reason string
		plain  []string // flags that are no keys
	}{
		"worker":    {[]string{"--log-level", "wrong"}, "--log-level must be", nil},
		"up":        {[]string{"--log-level", "wrong"}, "--log-level must be", nil},
		"control":   {[]string{"--poll", "1ms"}, "--poll must be", []string{"nats", "creds"}},
		"dashboard": {[]string{"--trust", ""}, "--trust", []string{"nats", "creds"}},
	} {
		out, err := exec.Command(program(t), append([]string{section, "--config", exampleConfig}, c.wrong...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.reason) || strings.Contains(string(out), "configuration") {
			t.Errorf("cocoon %s: %v\n%s", section, err, out)
		}
		keys := map[string]bool{}
		for flag := range verbAt(t, section).flags {
			keys[strings.ReplaceAll(flag, "-", "_")] = true
		}
		for _, flag := range append(c.plain, "help", cli.ConfigFlag) {
			delete(keys, flag)
		}
		differ(t, section, keys)
	}
}

// TestExampleConfigExplains holds every key of the example to a comment above it, or above the group that it is in.
func TestExampleConfigExplains(t *testing.T) {
	t.Parallel()
	sections := 0
	for _, block := range strings.Split(string(read(t, exampleConfig)), "\n\n")[1:] {
		before, after, found := strings.Cut("\n"+block, ":\n")
		if !found || !strings.Contains(before, "\n# ") {
			if strings.HasPrefix(block, "#") {
				continue // the note about secrets
			}
			t.Errorf("a section has no comment: %.40q", block)
		}
		sections++
		if strings.Count(after, "  # ") < 3 {
			t.Errorf("section %.40q explains hardly anything", before)
		}
	}
	if sections < 6 {
		t.Errorf("only %d sections were found", sections)
	}
}
