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

// writeNACK writes one resource. The resource knows fewer fields than the API; those that it lacks are the same for all
// streams here or have a default that is right.
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
	if r := c.RePublish; r != nil {
		w.WriteString("  republish:\n")
		line(2, "source", quoteYAML(r.Source))
		line(2, "destination", quoteYAML(r.Destination))
		when(r.HeadersOnly, 2, "headersOnly", true)
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
