package deploy

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// needGNU skips where the scripts' tools are not GNU's, as they are in the guest and on build machines.
func needGNU(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("tar", "--version").Output(); err != nil || !bytes.Contains(out, []byte("GNU tar")) {
		if required() {
			t.Fatal("GNU tar is required")
		}
		t.Skip("needs GNU tar")
	}
}

// shell runs a script of deploy/tdx and returns what it printed.
func shell(t *testing.T, env []string, script string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// write writes a file into a folder of the test and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bundle builds a bundle from the example.
func bundle(t *testing.T, dir string) string {
	t.Helper()
	trust := write(t, dir, "trust-in.json", "{}\n")
	path := filepath.Join(dir, "bundle.tar")
	if out, err := shell(t, nil, "tdx/build.sh", "bundle", path, "tdx/bundle.example.yaml", trust); err != nil {
		t.Fatalf("build.sh bundle: %v\n%s", err, out)
	}
	return path
}

// configure runs the guest's configuration on two volumes.
func configure(t *testing.T, bundle, host string) (run, out string, err error) {
	t.Helper()
	run = filepath.Join(t.TempDir(), "run")
	out, err = shell(t, []string{"BUNDLE=" + bundle, "HOST_VOLUME=" + host, "RUN=" + run}, "tdx/mkosi.extra/usr/lib/cocoon/configure")
	return run, out, err
}

// TestGuestConfiguration takes the example volumes as the guest does, padded as a disk is.
func TestGuestConfiguration(t *testing.T) {
	t.Parallel()
	needGNU(t)
	dir := t.TempDir()
	example := string(read(t, "tdx/host.example.env"))
	creds := base64.StdEncoding.EncodeToString([]byte("-----BEGIN NATS USER JWT-----\n"))
	host := write(t, dir, "host", example+"NATS_CREDS="+creds+"\n"+strings.Repeat("\x00", 300))
	run, out, err := configure(t, bundle(t, dir), host)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "COCOON_WORKER__OWNER=0:83dfd552e63729b472fcbcc8c45ebcc6691702558b68ec7527e1ba403a0f31a8\n" +
		"NATS_URL=tls://nats.example:4222\nCOCOON_WORKER__HOST=rack-4-machine-2\nCOCOON_WORKER__ASK=1.5\nNATS_CREDS=" + run + "/nats.creds\n"
	if got := string(read(t, filepath.Join(run, "host.env"))); got != want {
		t.Errorf("host.env is\n%swant\n%s", got, want)
	}
	if got := read(t, filepath.Join(run, "cocoon.yaml")); !bytes.Equal(got, read(t, "tdx/bundle.example.yaml")) {
		t.Errorf("cocoon.yaml is %q", got)
	}
	if got := read(t, filepath.Join(run, "nats.creds")); string(got) != "-----BEGIN NATS USER JWT-----\n" {
		t.Errorf("nats.creds is %q", got)
	}
	if info, err := os.Stat(filepath.Join(run, "nats.creds")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("nats.creds: %v %v", info.Mode(), err)
	}
	if !bytes.Equal(read(t, filepath.Join(run, "bundle.tar")), read(t, filepath.Join(dir, "bundle.tar"))) {
		t.Error("what is measured is not what was given")
	}
}

// TestGuestRefusesHost tries what a host could put on its volumes to get into a measured worker.
func TestGuestRefusesHost(t *testing.T) {
	t.Parallel()
	needGNU(t)
	dir := t.TempDir()
	good := bundle(t, dir)
	tarOf := func(name string, args ...string) string {
		path := filepath.Join(dir, name)
		if out, err := exec.Command("tar", append([]string{"-C", dir, "-cf", path}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("tar: %v\n%s", err, out)
		}
		return path
	}
	write(t, dir, "cocoon.yaml", "worker: {}\n")
	write(t, dir, "trust.json", "{}\n")
	write(t, dir, "more", "x")
	links := filepath.Join(dir, "links")
	if err := os.MkdirAll(links, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(links, "cocoon.yaml")); err != nil {
		t.Fatal(err)
	}
	write(t, links, "trust.json", "{}\n")
	for name, c := range map[string]struct{ bundle, host string }{
		"another key of the worker":  {good, "COCOON_WORKER__ENGINE=http://evil"},
		"a flag of the loader":       {good, "LD_PRELOAD=/evil.so"},
		"the proxy":                  {good, "HTTPS_PROXY=http://evil"},
		"a second line in a value":   {good, "HOST=a b"},
		"shell in a value":           {good, "HOST=$(id)"},
		"a quote":                    {good, `OWNER="x"`},
		"no equals sign":             {good, "OWNER"},
		"credentials that are none":  {good, "NATS_CREDS=???"},
		"a large host volume":        {good, "#" + strings.Repeat("x", 70_000)},
		"a file more":                {tarOf("more.tar", "cocoon.yaml", "trust.json", "more"), ""},
		"a file less":                {tarOf("less.tar", "cocoon.yaml"), ""},
		"the files in another order": {tarOf("order.tar", "trust.json", "cocoon.yaml"), ""},
		"a link":                     {tarOf("link.tar", "-C", links, "cocoon.yaml", "trust.json"), ""},
		"no tar":                     {write(t, dir, "none.tar", strings.Repeat("x", 1024)), ""},
		"a large bundle":             {write(t, dir, "large.tar", strings.Repeat("\x00", 1<<20+1)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, out, err := configure(t, c.bundle, write(t, t.TempDir(), "host", c.host))
			if err == nil {
				env, _ := os.ReadFile(filepath.Join(run, "host.env"))
				t.Errorf("accepted; host.env: %q", env)
			}
			if !strings.Contains(out, "configure: ") {
				t.Errorf("no reason given: %q", out)
			}
		})
	}
}

// TestGPUReady lets GPUs work only in confidential mode without developer tools.
func TestGPUReady(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		cc, tools string
		ready     bool
	}{
		"as it must be":      {"CC status: ON", "DevTools Mode: OFF", true},
		"confidential off":   {"CC status: OFF", "DevTools Mode: OFF", false},
		"developer tools on": {"CC status: ON", "DevTools Mode: ON", false},
		"no answer":          {"", "", false},
	} {
		smi := write(t, dir, strings.ReplaceAll(name, " ", "-"), fmt.Sprintf(`#!/bin/sh
case $2 in -f) echo %q ;; -d) echo %q ;; -srs) echo set >> "$0.set" ;; esac
`, c.cc, c.tools))
		if err := os.Chmod(smi, 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := shell(t, []string{"NVIDIA_SMI=" + smi}, "tdx/mkosi.extra/usr/lib/cocoon/gpu-ready")
		_, set := os.Stat(smi + ".set")
		if (err == nil) != c.ready || (set == nil) != c.ready {
			t.Errorf("%s: %v, set %v\n%s", name, err, set == nil, out)
		}
	}
}

// TestLaunch holds the launch script to the command of each mode and to its refusals.
func TestLaunch(t *testing.T) {
	t.Parallel()
	needGNU(t)
	dir := t.TempDir()
	image := write(t, dir, "image.raw", strings.Repeat("\x00", 1024))
	base := []string{"--image", image, "--bundle", bundle(t, dir), "--host", "tdx/host.example.env"}
	launch := func(args ...string) (string, error) {
		return shell(t, nil, "tdx/launch.sh", append(slices.Clone(base), args...)...)
	}
	configID := strings.Repeat("0a", 48)
	out, err := launch("test", "--gpu", "0000:17:00.0", "--gpu", "0000:65:00.0", "--config-id", configID)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, _ := hex.DecodeString(configID)
	for _, part := range []string{
		"confidential-guest-support=tdx", `"qom-type":"tdx-guest"`, `"quote-generation-socket"`, "vfio-pci,host=0000:17:00.0,bus=gpu0,iommufd=iommufd0",
		"vfio-pci,host=0000:65:00.0,bus=gpu1", "serial=cocoon-bundle", "serial=cocoon-host", "readonly=on",
		`"mrconfigid":"` + base64.StdEncoding.EncodeToString(raw) + `"`,
	} {
		if !strings.Contains(out, part) {
			t.Errorf("the command of a TDX guest lacks %s:\n%s", part, out)
		}
	}
	if out, err := launch("--print", "simulated"); err != nil || strings.Contains(out, "tdx-guest") || !strings.Contains(out, "serial=cocoon-bundle") {
		t.Errorf("simulated: %v\n%s", err, out)
	}
	odd := write(t, dir, "odd.raw", "x")
	for name, args := range map[string][]string{
		"no mode":           {"--print"},
		"a strange mode":    {"fast"},
		"a strange flag":    {"test", "--debug", "on"},
		"a GPU that is not": {"test", "--gpu", "17:00.0;reboot"},
		"a short id":        {"test", "--config-id", "0a"},
		"an id in capitals": {"test", "--config-id", strings.Repeat("0A", 48)},
		"half a sector":     {"test", "--image", odd},
	} {
		if out, err := launch(args...); err == nil {
			t.Errorf("%s: accepted\n%s", name, out)
		}
	}
	evil := write(t, dir, "evil", "LD_PRELOAD=x\n")
	if out, err := shell(t, nil, "tdx/launch.sh", "test", "--image", image, "--bundle", base[3], "--host", evil); err == nil || !strings.Contains(out, "may not set LD_PRELOAD") {
		t.Errorf("a host volume that the guest refuses: %v\n%s", err, out)
	}
}

// TestBundleIsReproducible builds the measured configuration in two folders at two times.
func TestBundleIsReproducible(t *testing.T) {
	t.Parallel()
	needGNU(t)
	sums := map[string]bool{}
	for i := range 2 {
		dir := t.TempDir()
		config := write(t, dir, "config.yaml", string(read(t, "tdx/bundle.example.yaml")))
		trust := write(t, dir, "trust.json", "{}\n")
		if err := os.Chmod(config, fs.FileMode(0o600+0o44*i)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(config, time.Time{}, time.Unix(int64(1e9*(1+i)), 0)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprintf("bundle-%d.tar", i))
		if out, err := shell(t, nil, "tdx/build.sh", "bundle", path, config, trust); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b := read(t, path)
		if len(b)%512 != 0 {
			t.Errorf("the bundle is no whole number of sectors: %d bytes", len(b))
		}
		sums[fmt.Sprintf("%x", sha256.Sum256(b))] = true
	}
	if len(sums) != 1 {
		t.Errorf("two builds differ: %v", sums)
	}
}

// copyRepository copies the sources to another folder, as a checkout there would have them.
func copyRepository(t *testing.T, to string) {
	t.Helper()
	out, err := exec.Command("git", "-C", "..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("not a checkout: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join("..", name))
		if os.IsNotExist(err) {
			continue // deleted here and not committed yet
		} else if err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(string(b), "#!") {
			mode = 0o755
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootfsIsReproducible builds the measured program and the tar around it from two checkouts on two paths. Both use
// this machine's build cache, so that it proves the paths, times and modes of the link and of the tar; that compilation
// does not depend on the path either is what -trimpath promises, and what a release checks with an empty cache.
func TestRootfsIsReproducible(t *testing.T) {
	t.Parallel()
	needGNU(t)
	if testing.Short() || !required() {
		t.Skip("compiles the whole program once more, with -trimpath: COCOON_TEST_REQUIRE=all runs it")
	}
	dirs := []string{filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "another/deeper")}
	for _, dir := range dirs {
		copyRepository(t, dir)
	}
	sums := map[string]bool{}
	for _, dir := range dirs {
		path := filepath.Join(t.TempDir(), "rootfs.tar")
		if out, err := shell(t, nil, filepath.Join(dir, "deploy/tdx/build.sh"), "rootfs", path); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b := read(t, path)
		for _, trace := range []string{dir, "/go-build"} {
			if bytes.Contains(b, []byte(trace)) {
				t.Errorf("the image contains the path %s", trace)
			}
		}
		sums[fmt.Sprintf("%x", sha256.Sum256(b))] = true
	}
	if len(sums) != 1 {
		t.Errorf("two builds differ: %v", sums)
	}
}

// unitKeys reads a systemd unit or an mkosi file: section.key to values.
func unitKeys(t *testing.T, path string) map[string][]string {
	t.Helper()
	keys, section := map[string][]string{}, ""
	for line := range strings.SplitSeq(string(read(t, path)), "\n") {
		switch {
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		case line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, " "):
		default:
			key, value, found := strings.Cut(line, "=")
			if !found || section == "" {
				t.Errorf("%s: %q is no setting", path, line)
			}
			keys[section+"."+key] = append(keys[section+"."+key], value)
		}
	}
	return keys
}

// TestUnits holds every unit to verbs and flags that the program has, to its hardening, and to systemd's own check.
func TestUnits(t *testing.T) {
	t.Parallel()
	for _, path := range glob(t, "systemd/*.service", "tdx/mkosi.extra/usr/lib/systemd/system/*.service") {
		keys := unitKeys(t, path)
		command := strings.Fields(strings.Join(keys["Service.ExecStart"], " "))
		if len(command) == 0 {
			t.Errorf("%s starts nothing", path)
			continue
		}
		if command[0] != "/usr/bin/cocoon" {
			if _, err := os.Stat(filepath.Join("tdx/mkosi.extra", command[0])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		checkCommand(t, path, command[1:])
		for _, key := range []string{"NoNewPrivileges", "CapabilityBoundingSet", "TimeoutStopSec", "UMask", "ProtectHome"} {
			if len(keys["Service."+key]) == 0 {
				t.Errorf("%s has no %s", path, key)
			}
		}
	}
	// A register that was extended cannot be taken back: the guest's worker must never be started twice in one boot.
	worker := unitKeys(t, "tdx/mkosi.extra/usr/lib/systemd/system/cocoon-worker.service")
	if worker["Service.Restart"][0] != "no" || worker["Unit.FailureAction"][0] != "reboot" {
		t.Errorf("the guest's worker may start twice: %v", worker)
	}
}

// TestUnitsPassSystemd runs systemd's own check on the units of ordinary machines.
func TestUnitsPassSystemd(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if required() {
			t.Fatal("systemd-analyze is required")
		}
		t.Skip("systemd-analyze is not on this machine")
	}
	for _, path := range glob(t, "systemd/*.service") {
		// The check wants a program that exists.
		unit := write(t, t.TempDir(), filepath.Base(path), strings.ReplaceAll(string(read(t, path)), "/usr/bin/cocoon", "/bin/true"))
		if out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}

// TestGuestImage holds the image's definition to what makes it measured and closed.
func TestGuestImage(t *testing.T) {
	t.Parallel()
	conf := string(read(t, "tdx/mkosi.conf"))
	keys := unitKeys(t, "tdx/mkosi.conf")
	for key, want := range map[string]string{
		"Content.Bootloader": "uki", "Content.RootPassword": "hashed:!", "Content.Ssh": "never", "Content.Autologin": "no", "Build.WithNetwork": "no",
	} {
		if got := strings.Join(keys[key], ","); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for _, word := range []string{"rd.shell=0", "lockdown=confidentiality", "Snapshot=", "SourceDateEpoch="} {
		if !strings.Contains(conf, word) {
			t.Errorf("mkosi.conf lacks %s", word)
		}
	}
	verity := map[string]string{}
	for _, path := range glob(t, "tdx/mkosi.repart/*.conf") {
		if v := unitKeys(t, path)["Partition.Verity"]; len(v) == 1 {
			verity[v[0]] = unitKeys(t, path)["Partition.VerityMatchKey"][0]
		}
	}
	if !maps.Equal(verity, map[string]string{"data": "root", "hash": "root"}) {
		t.Errorf("the root is not on dm-verity: %v", verity)
	}
}
