package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// EnvPrefix stands before every environment variable that configures the program.
const EnvPrefix = "COCOON_"

// ConfigFlag names the flag with the path of the configuration file; COCOON_CONFIG does the same.
const ConfigFlag = "config"

// MaxConfigFile bounds the size of a configuration file in bytes.
const MaxConfigFile = 1 << 20

// Sections are the top-level keys of a configuration file: one for each verb that runs something.
func Sections() []string {
	return []string{"nats", "up", "demo", "gateway", "worker", "engine", "broker", "settle", "control", "dashboard"}
}

// Load fills into, a pointer to a struct with koanf tags, from the section of the configuration: the flags that the
// user set, over COCOON_<SECTION>__<KEY> variables, over the section in the file, over what into holds already. A
// flag --max-batch sets key max_batch; flags without a key in the struct are ignored. An unknown key in the file or
// environment is a UsageError that names it.
func Load(cmd *cobra.Command, section string, into any) error {
	k := koanf.New(".")
	path, explicit := configPath(cmd)
	if err := loadFile(k, path, explicit); err != nil {
		return err
	}
	if err := loadEnv(k); err != nil {
		return err
	}
	for key := range k.Raw() {
		if !oneOf(key, Sections()) {
			return Usagef("unknown configuration section %q (known: %s)", key, strings.Join(Sections(), ", "))
		}
	}
	known := keysOf(into)
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		key := strings.ReplaceAll(f.Name, "-", "_")
		if f.Changed && known[key] {
			err = errors.Join(err, k.Set(section+"."+key, flagValue(f)))
		}
	})
	if err != nil {
		return fmt.Errorf("read flags: %w", err)
	}
	return decode(k, section, into)
}

// decode copies the section into the struct and refuses keys that the struct does not have.
func decode(k *koanf.Koanf, section string, into any) error {
	var meta mapstructure.Metadata
	conf := koanf.UnmarshalConf{Tag: "koanf", DecoderConfig: &mapstructure.DecoderConfig{
		Result: into, TagName: "koanf", WeaklyTypedInput: true, Metadata: &meta,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.TextUnmarshallerHookFunc(),
			mapstructure.StringToSliceHookFunc(","),
		),
	}}
	if err := k.UnmarshalWithConf(section, into, conf); err != nil {
		return Usagef("configuration section %q: %w", section, err)
	}
	if len(meta.Unused) > 0 {
		sort.Strings(meta.Unused)
		return Usagef("unknown configuration key %q in section %q", meta.Unused[0], section)
	}
	return nil
}

// configPath is the file to read and whether the user asked for it.
func configPath(cmd *cobra.Command) (path string, explicit bool) {
	if f := cmd.Flags().Lookup(ConfigFlag); f != nil && f.Changed {
		return f.Value.String(), true
	}
	if p := os.Getenv(EnvPrefix + "CONFIG"); p != "" {
		return p, true
	}
	return "", false
}

// loadFile reads the YAML file, which may be absent only when nobody named it.
func loadFile(k *koanf.Koanf, path string, explicit bool) error {
	if !explicit {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Usagef("configuration file %s does not exist", path)
	case err != nil:
		return fmt.Errorf("configuration file: %w", err)
	case info.Size() > MaxConfigFile:
		return Usagef("configuration file %s is larger than 1 MiB", path)
	}
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return Usagef("configuration file %s: %w", path, err)
	}
	return nil
}

// loadEnv reads COCOON_<SECTION>__<KEY>. Variables without "__" are not configuration: COCOON_CONFIG, COCOON_TEST_….
func loadEnv(k *koanf.Koanf) error {
	provider := env.Provider(".", env.Opt{
		Prefix: EnvPrefix,
		TransformFunc: func(key, value string) (string, any) {
			section, rest, nested := strings.Cut(strings.TrimPrefix(key, EnvPrefix), "__")
			if !nested {
				return "", nil
			}
			return strings.ToLower(section + "." + strings.ReplaceAll(rest, "__", ".")), value
		},
	})
	if err := k.Load(provider, nil); err != nil {
		return fmt.Errorf("read environment: %w", err)
	}
	return nil
}

// flagValue keeps lists as lists.
func flagValue(f *pflag.Flag) any {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return f.Value.String()
}

// keysOf lists the first-level koanf keys of a struct pointer.
func keysOf(into any) map[string]bool {
	var m map[string]any
	keys := map[string]bool{}
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{Result: &m, TagName: "koanf"})
	if err != nil || d.Decode(into) != nil {
		return keys
	}
	for key := range m {
		keys[key] = true
	}
	return keys
}

// oneOf reports whether list has s.
func oneOf(s string, list []string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
