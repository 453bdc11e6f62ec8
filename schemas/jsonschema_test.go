package schemas_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// update writes the JSON Schemas anew: go test ./schemas -run TestJSONSchemas -update.
var update = flag.Bool("update", false, "write the JSON Schemas anew")

// documents are the JSON documents that cross a border, by the name of their schema.
func documents() map[string]any {
	return map[string]any{
		"policy": schemas.Policy{}, "catalogue": schemas.Catalogue{}, "claims": schemas.Claims{}, "trust": schemas.Trust{},
		"signed-document": schemas.Signed{}, "grant": schemas.Grant{}, "receipt": schemas.Receipt{}, "keybundle": schemas.KeyBundle{},
		"weightskey": schemas.WeightsKey{}, "publishedkey": schemas.PublishedKey{}, "credit": schemas.Credit{},
	}
}

// TestJSONSchemas: the published schemas are what the code reads and writes.
func TestJSONSchemas(t *testing.T) {
	comments := fieldComments(t)
	for name, document := range documents() {
		g := &schemaMaker{t: t, comments: comments}
		s := g.of(reflect.TypeOf(document))
		s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		s["$id"] = "https://cocoon.network/schemas/v1/" + name + ".json"
		s["title"] = reflect.TypeOf(document).Name()
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("spec", name+".schema.json")
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, b.Bytes()) {
			t.Errorf("%s is not what the code says; run: go test ./schemas -run TestJSONSchemas -update", path)
		}
	}
}

// schemaMaker makes schemas of Go types.
type schemaMaker struct {
	t        *testing.T
	comments map[string]string
}

// texts are the types that are spelled as text, with their pattern.
var texts = map[reflect.Type]map[string]any{
	reflect.TypeFor[schemas.Hash]():     {"type": "string", "pattern": "^sha256-[0-9a-f]{64}$"},
	reflect.TypeFor[schemas.NanoTON]():  {"type": "string", "pattern": "^(0|-?[1-9][0-9]{0,18})$"},
	reflect.TypeFor[schemas.KeyID]():    {"type": "string", "pattern": "^[0-9a-f]{32}$"},
	reflect.TypeFor[schemas.JobID]():    {"type": "string", "pattern": "^[a-z2-7]{26}$"},
	reflect.TypeFor[schemas.TenantID](): {"type": "string", "pattern": "^t[a-z2-7]{16}$"},
	reflect.TypeFor[schemas.WorkerID](): {"type": "string", "pattern": "^w[a-z2-7]{16}$"},
	reflect.TypeFor[schemas.Owner]():    {"type": "string", "pattern": "^(0|-1):[0-9a-f]{64}$"},
	reflect.TypeFor[schemas.ModelID]():  {"type": "string", "pattern": "^[A-Za-z0-9._/-]{1,64}@[A-Za-z0-9._-]{1,32}:sha256-[0-9a-f]{64}$"},
	reflect.TypeFor[schemas.BootID]():   {"type": "string", "pattern": "^[0-9a-f]{32}$"},
	reflect.TypeFor[schemas.PPID]():     {"type": "string", "pattern": "^[0-9a-f]{32}$"},
	reflect.TypeFor[schemas.Measure]():  {"type": "string", "pattern": "^[0-9a-f]{96}$"},
	reflect.TypeFor[schemas.Bits64]():   {"type": "string"},
	reflect.TypeFor[time.Time]():        {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"},
	reflect.TypeFor[schemas.Class]():    {"type": "string", "enum": []string{"priority", "standard", "batch"}},
	reflect.TypeFor[schemas.Environment](): {
		"type": "string", "enum": []string{"production", "simulated"},
	},
	reflect.TypeFor[schemas.Role]():   {"type": "string", "enum": []string{"worker", "broker"}},
	reflect.TypeFor[schemas.Status](): {"type": "string", "enum": []string{"succeeded", "failed", "expired", "cancelled"}},
}

// of makes the schema of a type.
func (g *schemaMaker) of(typ reflect.Type) map[string]any {
	if s, ok := texts[typ]; ok {
		c := map[string]any{}
		for k, v := range s {
			c[k] = v
		}
		return c
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return g.of(typ.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Uint32:
		return map[string]any{"type": "integer"}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.of(typ.Elem())}
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "contentEncoding": "base64"}
		}
		return map[string]any{"type": "array", "items": g.of(typ.Elem())}
	case reflect.Struct:
		return g.object(typ)
	}
	g.t.Fatalf("no schema for %s", typ)
	return nil
}

// object makes the schema of a struct.
func (g *schemaMaker) object(typ reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			g.t.Fatalf("%s.%s has no json name", typ, f.Name)
		}
		s := g.of(f.Type)
		if text := g.comments[typ.Name()+"."+f.Name]; text != "" {
			s["description"] = text
		}
		properties[name] = s
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

// fieldComments reads what the package's source says about each field.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	paths, err := filepath.Glob("*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no source: %v", err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						comments[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
					}
				}
			}
			return true
		})
	}
	return comments
}
