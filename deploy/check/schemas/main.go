// Command schemas writes the JSON schemas of the Kubernetes objects that the chart makes, for kubeconform: of Kubernetes'
// own kinds from its OpenAPI document, of KEDA's and the Prometheus operator's from their custom resource definitions. All
// three come as Go modules of pinned versions and hashes. The schemas are strict: a field that does not exist is an error.
//
//	go run ./schemas FOLDER
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// object is a JSON object.
type object = map[string]any

// source is a module with definitions of objects.
type source struct {
	module, sum string
	files       []string
	read        func(dir, path string) error
}

// sources are the pinned modules.
var sources = []source{
	{"k8s.io/kubernetes@v1.35.0", "h1:PUOojD8c8E3csMP5NX+nLLne6SGqZjrYCscptyBfWMY=", []string{"api/openapi-spec/swagger.json"}, openAPI},
	{"github.com/kedacore/keda/v2@v2.18.1", "h1:h6bRt/IOxxtZpJlHSqhdH/lcInH7Z9obxg/JvWOmGAw=", []string{"config/crd/bases/keda.sh_scaledobjects.yaml"}, definition},
	{
		"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
		[]string{"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml", "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"},
		definition,
	},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: schemas FOLDER")
		os.Exit(2)
	}
	for _, s := range sources {
		if err := s.write(os.Args[1]); err != nil {
			fmt.Fprintf(os.Stderr, "schemas: %s: %v\n", s.module, err)
			os.Exit(1)
		}
	}
}

// write downloads the module and writes its schemas.
func (s source) write(dir string) error {
	out, err := exec.Command("go", "mod", "download", "-json", s.module).Output()
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	var got struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if got.Sum != s.sum {
		return fmt.Errorf("has the hash %s, not %s", got.Sum, s.sum)
	}
	for _, file := range s.files {
		if err := s.read(dir, filepath.Join(got.Dir, file)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// definitions is the file that the schemas of Kubernetes' kinds refer to.
const definitions = "_definitions.json"

// openAPI writes a schema for every kind of Kubernetes.
func openAPI(dir, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec struct {
		Definitions map[string]object `json:"definitions"`
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	for name, d := range spec.Definitions {
		switch {
		case strings.HasSuffix(name, ".intstr.IntOrString"):
			spec.Definitions[name] = object{"type": []string{"string", "integer"}}
		case strings.HasSuffix(name, ".resource.Quantity"):
			spec.Definitions[name] = object{"type": []string{"string", "number"}}
		}
		strict(d)
		kinds, _ := d["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			kind, _ := k.(object)
			root := object{"$ref": definitions + "#/definitions/" + name}
			if err := save(dir, str(kind["kind"]), str(kind["group"]), str(kind["version"]), root); err != nil {
				return err
			}
		}
	}
	return encode(filepath.Join(dir, definitions), object{"definitions": spec.Definitions})
}

// definition writes the schemas of a custom resource definition, one a version.
func definition(dir, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema object `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}
	if len(crd.Spec.Versions) == 0 {
		return errors.New("is no definition")
	}
	for _, v := range crd.Spec.Versions {
		strict(v.Schema.OpenAPIV3Schema)
		if err := save(dir, crd.Spec.Names.Kind, crd.Spec.Group, v.Name, v.Schema.OpenAPIV3Schema); err != nil {
			return err
		}
	}
	return nil
}

// strict forbids fields that a schema does not list, wherever it lists any.
func strict(schema any) {
	switch s := schema.(type) {
	case object:
		_, lists := s["properties"]
		_, more := s["additionalProperties"]
		if lists && !more && s["x-kubernetes-preserve-unknown-fields"] == nil {
			s["additionalProperties"] = false
		}
		for _, inner := range s {
			strict(inner)
		}
	case []any:
		for _, inner := range s {
			strict(inner)
		}
	}
}

// str is a value as a string, "" if it is none.
func str(v any) string { s, _ := v.(string); return s }

// save writes a schema under the name by which kubeconform asks for it.
func save(dir, kind, group, version string, schema object) error {
	name := kind
	if first, _, _ := strings.Cut(group, "."); first != "" {
		name += "-" + first
	}
	return encode(filepath.Join(dir, strings.ToLower(name+"-"+version)+".json"), schema)
}

// encode writes a JSON file.
func encode(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
