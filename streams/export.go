package streams

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// ExportJSON spells the topology in the form that [ParseTopology] reads.
func (t Topology) ExportJSON() ([]byte, error) {
	t = t.WithDefaults()
	if err := t.Check(); err != nil {
		return nil, err
	}
	return indented(t)
}

// ExportStreams spells the full configuration of every stream as the JetStream API takes it, as a JSON array.
func (t Topology) ExportStreams() ([]byte, error) {
	configs, err := t.checked()
	if err != nil {
		return nil, err
	}
	return indented(configs)
}

// checked is the list of configurations of a valid topology.
func (t Topology) checked() ([]jetstream.StreamConfig, error) {
	t = t.WithDefaults()
	if err := t.Check(); err != nil {
		return nil, err
	}
	return t.configs()
}

// indented spells a value for people.
func indented(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, schemas.Errorf(schemas.KindInternal, "export: %w", err)
	}
	return append(text, '\n'), nil
}

// ExportNACK spells every stream as a resource of NACK, the JetStream controller for Kubernetes (jetstream.nats.io/v1beta2).
//
// The resource cannot say that a republished copy has headers only, which the job streams rely on: a wake-up must not carry the
// job. Such streams are marked preventUpdate, so that NACK makes them and [Bus.Apply] (`cocoon topology apply`) then sets what is
// missing for good.
func (t Topology) ExportNACK() ([]byte, error) {
	configs, err := t.checked()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, c := range configs {
		writeNACK(&out, c)
	}
	return out.Bytes(), nil
}

// writeNACK writes one resource.
func writeNACK(w *bytes.Buffer, c jetstream.StreamConfig) {
	line := func(depth int, key string, value any) {
		fmt.Fprintf(w, "%s%s: %v\n", strings.Repeat("  ", depth), key, value)
	}
	when := func(ok bool, depth int, key string, value any) {
		if ok {
			line(depth, key, value)
		}
	}
	w.WriteString("---\napiVersion: jetstream.nats.io/v1beta2\nkind: Stream\nmetadata:\n")
	line(1, "name", strings.ToLower(strings.ReplaceAll(c.Name, "_", "-")))
	w.WriteString("spec:\n")
	line(1, "name", c.Name)
	line(1, "description", quoteYAML(c.Description))
	w.WriteString("  subjects:\n")
	for _, s := range c.Subjects {
		fmt.Fprintf(w, "    - %s\n", quoteYAML(s))
	}
	line(1, "retention", retentionName(c.Retention))
	line(1, "storage", "file")
	line(1, "replicas", c.Replicas)
	line(1, "discard", discardName(c.Discard))
	when(c.DiscardNewPerSubject, 1, "discardPerSubject", true)
	when(c.MaxAge > 0, 1, "maxAge", c.MaxAge)
	when(c.MaxMsgs > 0, 1, "maxMsgs", c.MaxMsgs)
	when(c.MaxBytes > 0, 1, "maxBytes", c.MaxBytes)
	when(c.MaxMsgSize > 0, 1, "maxMsgSize", c.MaxMsgSize)
	when(c.MaxMsgsPerSubject > 0, 1, "maxMsgsPerSubject", c.MaxMsgsPerSubject)
	when(c.MaxConsumers > 0, 1, "maxConsumers", c.MaxConsumers)
	line(1, "duplicateWindow", c.Duplicates)
	line(1, "allowDirect", c.AllowDirect)
	line(1, "allowRollup", false)
	when(c.AllowMsgTTL, 1, "allowMsgTtl", true)
	when(c.DenyDelete, 1, "denyDelete", true)
	when(c.DenyPurge, 1, "denyPurge", true)
	when(c.Compression == jetstream.S2Compression, 1, "compression", "s2")
	if p := c.Placement; p != nil {
		w.WriteString("  placement:\n")
		when(p.Cluster != "", 2, "cluster", quoteYAML(p.Cluster))
		if len(p.Tags) > 0 {
			w.WriteString("    tags:\n")
		}
		for _, tag := range p.Tags {
			fmt.Fprintf(w, "      - %s\n", quoteYAML(tag))
		}
	}
	if r := c.RePublish; r != nil {
		if r.HeadersOnly {
			line(1, "preventUpdate", "true # run `cocoon topology apply` once: this resource cannot ask for headers only")
		}
		w.WriteString("  republish:\n")
		line(2, "source", quoteYAML(r.Source))
		line(2, "destination", quoteYAML(r.Destination))
	}
	if s := c.SubjectTransform; s != nil {
		w.WriteString("  subjectTransform:\n")
		line(2, "source", quoteYAML(s.Source))
		line(2, "dest", quoteYAML(s.Destination))
	}
	if len(c.Metadata) > 0 {
		w.WriteString("  metadata:\n")
		for _, k := range sortedKeys(c.Metadata) {
			line(2, k, quoteYAML(c.Metadata[k]))
		}
	}
}

// quoteYAML spells a string as a double-quoted YAML scalar, which JSON's spelling is.
func quoteYAML(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic("streams: a string always marshals: " + err.Error())
	}
	return string(text)
}

// discardName is the name of a discard policy.
func discardName(d jetstream.DiscardPolicy) string {
	if d == jetstream.DiscardNew {
		return "new"
	}
	return "old"
}

// retentionName is the name of a retention policy.
func retentionName(r jetstream.RetentionPolicy) string {
	if r == jetstream.WorkQueuePolicy {
		return "workqueue"
	}
	return "limits"
}
