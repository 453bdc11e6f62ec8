package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// compose reads the compose file.
func compose(t *testing.T) object {
	t.Helper()
	return documents(t, "docker-compose.yml", read(t, "docker-compose.yml"))[0]
}

// built reports which target of our Dockerfile a service runs, "" for images of others.
func built(service any) string { return text(at(service, "build", "target")) }

// TestComposeRunsRealVerbs holds the command of every service of ours to the program, and its environment to the
// configuration: COCOON_<SECTION>__<KEY> must be a key of that section.
func TestComposeRunsRealVerbs(t *testing.T) {
	t.Parallel()
	services, _ := compose(t)["services"].(object)
	ran := map[string]bool{}
	for name, service := range services {
		switch built(service) {
		case "cocoon":
			ran[checkCommand(t, "service "+name, words(at(service, "command"))).path] = true
		case "tools":
			if args := words(at(service, "command")); len(args) != 1 || !strings.Contains(string(read(t, "docker/bootstrap.sh")), "\n"+args[0]+") ") {
				t.Errorf("service %s: bootstrap has no step %v", name, args)
			}
		default:
			image := text(at(service, "image"))
			if _, tag, found := strings.Cut(image, ":"); !found || tag == "latest" || !strings.ContainsAny(tag, "0123456789") {
				t.Errorf("service %s: image %q is not pinned to a version", name, image)
			}
		}
		env, _ := at(service, "environment").(object)
		for key := range env {
			section, rest, ours := strings.Cut(strings.TrimPrefix(key, "COCOON_"), "__")
			if strings.HasPrefix(key, "COCOON_") && ours && !exampleKeys(t, strings.ToLower(section))[strings.ToLower(rest)] {
				t.Errorf("service %s: %s is no key of the configuration", name, key)
			}
		}
	}
	for _, verb := range []string{"control", "broker", "worker", "settle", "gateway", "dashboard"} {
		if !ran[verb] {
			t.Errorf("no service runs cocoon %s", verb)
		}
	}
}

// TestComposeAgreesWithItself holds it to volumes, networks and services that are declared, to files that exist, and to
// the hardening of every service of ours.
func TestComposeAgreesWithItself(t *testing.T) {
	t.Parallel()
	file := compose(t)
	services, _ := file["services"].(object)
	volumes, _ := file["volumes"].(object)
	used := map[string]bool{}
	for name, service := range services {
		for _, volume := range words(at(service, "volumes")) {
			source, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(source, "./") {
				if _, err := os.Stat(source); err != nil {
					t.Errorf("service %s: %v", name, err)
				}
				continue
			}
			used[source] = true
			if _, ok := volumes[source]; !ok {
				t.Errorf("service %s: no volume %q", name, source)
			}
		}
		needs, _ := at(service, "depends_on").(object)
		for other := range needs {
			if services[other] == nil {
				t.Errorf("service %s depends on %q, which is none", name, other)
			}
		}
		if built(service) != "" && (!slices.Equal(words(at(service, "cap_drop")), []string{"ALL"}) || len(list(at(service, "security_opt"))) == 0) {
			t.Errorf("service %s keeps capabilities or may gain them", name)
		}
		for _, port := range words(at(service, "ports")) {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("service %s is published beyond this machine: %s", name, port)
			}
		}
	}
	if !maps.Equal(used, keySet(volumes)) {
		t.Errorf("volumes declared %v, used %v", slices.Sorted(maps.Keys(volumes)), slices.Sorted(maps.Keys(used)))
	}
}

// keySet are the keys of an object.
func keySet(o object) map[string]bool {
	keys := map[string]bool{}
	for key := range o {
		keys[key] = true
	}
	return keys
}

// TestComposeScrapesWhatIsServed holds Prometheus to services of the file that have a metrics port.
func TestComposeScrapesWhatIsServed(t *testing.T) {
	t.Parallel()
	services, _ := compose(t)["services"].(object)
	for _, job := range list(documents(t, "prometheus.yml", read(t, "prometheus/prometheus.yml"))[0]["scrape_configs"]) {
		for _, target := range words(at(job, "static_configs", 0, "targets")) {
			host, port, _ := strings.Cut(target, ":")
			service := services[host]
			if service == nil {
				t.Errorf("%s: no service %s", text(at(job, "job_name")), host)
			} else if built(service) != "" && !slices.Contains(words(at(service, "command")), "0.0.0.0:"+port) {
				t.Errorf("%s does not listen on port %s", host, port)
			}
		}
	}
}

// TestComposeNATS parses the servers' configuration with the server's own parser.
func TestComposeNATS(t *testing.T) {
	t.Setenv("NATS_NAME", "nats-1")
	o, err := server.ProcessConfigFile("docker/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	services, _ := compose(t)["services"].(object)
	if o.ServerName != "nats-1" || !o.SyncAlways || o.StoreDir != "/data" || o.Cluster.Name != "cocoon" || len(o.Routes) != 3 {
		t.Errorf("name %q, sync always %v, store %q, cluster %q, %d routes", o.ServerName, o.SyncAlways, o.StoreDir, o.Cluster.Name, len(o.Routes))
	}
	for _, route := range o.Routes {
		service := services[route.Hostname()]
		if service == nil || text(at(service, "environment", "NATS_NAME")) != route.Hostname() {
			t.Errorf("route %s leads to no service of that name", route)
		}
	}
}

// TestDockerfile holds the images to what they promise: not root, no shell in the ones that serve, and copies of files
// that exist.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	stages := map[string][]string{}
	stage := ""
	for line := range strings.SplitSeq(strings.ReplaceAll(string(read(t, "docker/Dockerfile")), "\\\n", " "), "\n") {
		f := strings.Fields(line)
		if len(f) == 4 && f[0] == "FROM" && f[2] == "AS" {
			stage = f[3]
			stages[stage] = []string{}
		} else if len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			stages[stage] = append(stages[stage], line)
		}
		if len(f) > 2 && f[0] == "COPY" && !strings.HasPrefix(f[1], "-") && f[1] != "." {
			for _, path := range f[1 : len(f)-1] {
				if _, err := os.Stat(filepath.Join("..", path)); err != nil {
					t.Errorf("COPY: %v", err)
				}
			}
		}
	}
	for _, name := range []string{"cocoon", "worker", "tools"} {
		if !slices.Contains(stages[name], "USER 65532:65532") {
			t.Errorf("target %s runs as root", name)
		}
		if name != "tools" && slices.ContainsFunc(stages[name], func(l string) bool { return strings.HasPrefix(l, "RUN") }) {
			t.Errorf("target %s runs commands: its base has no shell", name)
		}
	}
	if !strings.Contains(strings.Join(stages["small"], "\n"), `-tags "worker nvml"`) {
		t.Error("the worker's image is not built with the tags of the measured worker")
	}
}
