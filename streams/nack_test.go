package streams_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"go.yaml.in/yaml/v3"

	"github.com/cocoon-network/cocoon/streams"
)

// nackResource is a Stream of NACK, jetstream.nats.io/v1beta2, with the names and types of deploy/crds.yml in
// github.com/nats-io/nack at commit f6dad096d5d4 (April 2026), without connections, mirrors and sources. Kubernetes drops what is
// not listed there without a word, so that nothing else may be exported.
type nackResource struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		Name                                     string
		Description                              string
		Subjects                                 []string
		Retention, Storage, Discard, Compression string
		Replicas                                 int
		MaxConsumers                             int           `yaml:"maxConsumers"`
		MaxMsgs                                  int64         `yaml:"maxMsgs"`
		MaxMsgsPerSubject                        int64         `yaml:"maxMsgsPerSubject"`
		MaxBytes                                 int64         `yaml:"maxBytes"`
		MaxMsgSize                               int32         `yaml:"maxMsgSize"`
		MaxAge                                   time.Duration `yaml:"maxAge"`
		DuplicateWindow                          time.Duration `yaml:"duplicateWindow"`
		DiscardPerSubject                        bool          `yaml:"discardPerSubject"`
		AllowDirect                              bool          `yaml:"allowDirect"`
		AllowRollup                              bool          `yaml:"allowRollup"`
		AllowMsgTTL                              bool          `yaml:"allowMsgTtl"`
		DenyDelete                               bool          `yaml:"denyDelete"`
		DenyPurge                                bool          `yaml:"denyPurge"`
		PreventUpdate                            bool          `yaml:"preventUpdate"`
		Metadata                                 map[string]string
		Republish                                *struct{ Source, Destination string }
		SubjectTransform                         *struct{ Source, Dest string } `yaml:"subjectTransform"`
		Placement                                *struct {
			Cluster string
			Tags    []string
		}
	}
}

// config is the stream that NACK makes of it.
func (r nackResource) config(t *testing.T) jetstream.StreamConfig {
	t.Helper()
	s := r.Spec
	c := jetstream.StreamConfig{
		Name: s.Name, Description: s.Description, Subjects: s.Subjects, Replicas: s.Replicas, MaxConsumers: s.MaxConsumers,
		MaxMsgs: s.MaxMsgs, MaxMsgsPerSubject: s.MaxMsgsPerSubject, MaxBytes: s.MaxBytes, MaxMsgSize: s.MaxMsgSize, MaxAge: s.MaxAge,
		Duplicates: s.DuplicateWindow, DiscardNewPerSubject: s.DiscardPerSubject, AllowDirect: s.AllowDirect, AllowRollup: s.AllowRollup,
		AllowMsgTTL: s.AllowMsgTTL, DenyDelete: s.DenyDelete, DenyPurge: s.DenyPurge, Metadata: s.Metadata,
	}
	enum := func(v any, value string) {
		if value == "" {
			return
		}
		if err := json.Unmarshal([]byte(`"`+value+`"`), v); err != nil {
			t.Error(err)
		}
	}
	enum(&c.Retention, s.Retention)
	enum(&c.Storage, s.Storage)
	enum(&c.Discard, s.Discard)
	enum(&c.Compression, s.Compression)
	if s.Republish != nil {
		c.RePublish = &jetstream.RePublish{Source: s.Republish.Source, Destination: s.Republish.Destination}
	}
	if s.SubjectTransform != nil {
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: s.SubjectTransform.Source, Destination: s.SubjectTransform.Dest}
	}
	if s.Placement != nil {
		c.Placement = &jetstream.Placement{Cluster: s.Placement.Cluster, Tags: s.Placement.Tags}
	}
	return c
}

// TestExportNACK: what is exported fits the resource, and NACK makes of it the same streams as the topology, but for what the
// resource cannot say, which it is told not to undo.
func TestExportNACK(t *testing.T) {
	t.Parallel()
	topology, err := streams.ParseTopology([]byte(`{"shards": 2, "replicas": 3, "shard_bytes": 1000000000,
		"streams": {"OUT": {"compression": "s2", "placement": {"cluster": "c1", "tags": ["ssd", "eu"]}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := topology.ExportNACK()
	if err != nil {
		t.Fatal(err)
	}
	full, err := topology.ExportStreams()
	if err != nil {
		t.Fatal(err)
	}
	var want []jetstream.StreamConfig
	if err := json.Unmarshal(full, &want); err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	for _, w := range want {
		var r nackResource
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.APIVersion != "jetstream.nats.io/v1beta2" || r.Kind != "Stream" || r.Metadata.Name != strings.ToLower(strings.ReplaceAll(w.Name, "_", "-")) {
			t.Errorf("resource %s, %s %s", r.Metadata.Name, r.APIVersion, r.Kind)
		}
		if w.RePublish != nil && w.RePublish.HeadersOnly {
			if !r.Spec.PreventUpdate {
				t.Errorf("%s: NACK would undo what it cannot say", w.Name)
			}
			w.RePublish.HeadersOnly = false
		}
		if diff := cmp.Diff(w, r.config(t)); diff != "" {
			t.Errorf("%s (-topology +NACK):\n%s", w.Name, diff)
		}
	}
	if err := d.Decode(&nackResource{}); !errors.Is(err, io.EOF) {
		t.Errorf("after the last stream: %v", err)
	}
}
