package streams

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// The oldest server that this package works with: fast and reliable work-queue sourcing, batched direct gets and
// republish on transformed subjects.
const (
	minServerMajor = 2
	minServerMinor = 14
)

// Change is one difference between a topology and a cluster.
type Change struct {
	// Stream is the name of the stream; Field what differs ("" when the stream is missing).
	Stream string `json:"stream"`
	Field  string `json:"field,omitempty"`
	// Have and Want are the two values, as JSON.
	Have string `json:"have,omitempty"`
	Want string `json:"want,omitempty"`
	// Refused tells why Apply would not make the change; empty when it would.
	Refused string `json:"refused,omitempty"`
}

// Apply makes the cluster's streams equal to the topology and returns what it changed. It is idempotent, and it refuses,
// before it changes anything, servers before 2.14 (KindUnsupported) and changes that would lose messages or a
// guarantee (KindConflict).
//
// Commit point: each stream on its own. A crash in between leaves a part applied; applying again finishes it.
func (b *Bus) Apply(ctx context.Context, t Topology) ([]Change, error) {
	configs, changes, err := b.compare(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		if c.Refused != "" {
			return changes, schemas.Errorf(schemas.KindConflict, "stream %s: %s may not change from %s to %s: %s", c.Stream, c.Field, c.Have, c.Want, c.Refused)
		}
	}
	for _, config := range configs {
		touched := slices.ContainsFunc(changes, func(c Change) bool { return c.Stream == config.Name })
		if !touched {
			continue
		}
		err := b.retry(ctx, func(ctx context.Context) error {
			return b.write(ctx, OpTopology, config.Name, func() error {
				return b.watchDenial(ctx, b.api("STREAM.CREATE."+config.Name), func(ctx context.Context) error {
					_, err := b.js.CreateOrUpdateStream(ctx, config)
					return err
				})
			})
		})
		if err != nil {
			return changes, schemas.Errorf(schemas.KindOf(err), "stream %s: %w", config.Name, err)
		}
	}
	return changes, nil
}

// Diff returns what Apply would change.
func (b *Bus) Diff(ctx context.Context, t Topology) ([]Change, error) {
	_, changes, err := b.compare(ctx, t)
	return changes, err
}

// compare lists the wanted configurations and all differences.
func (b *Bus) compare(ctx context.Context, t Topology) ([]jetstream.StreamConfig, []Change, error) {
	t = t.WithDefaults()
	if err := t.Check(); err != nil {
		return nil, nil, err
	}
	if err := CheckServer(b.nc.ConnectedServerVersion()); err != nil {
		return nil, nil, err
	}
	configs, err := t.configs()
	if err != nil {
		return nil, nil, err
	}
	have, err := b.streams(ctx)
	if err != nil {
		return nil, nil, err
	}
	var changes []Change
	for _, want := range configs {
		info, ok := have[want.Name]
		delete(have, want.Name)
		if !ok {
			changes = append(changes, Change{Stream: want.Name})
			continue
		}
		changes = append(changes, differences(info, want)...)
	}
	for name := range have {
		if strings.HasPrefix(name, "JOBS_") && name != StreamAdvisories {
			changes = append(changes, Change{
				Stream: name, Field: "shards", Have: "present", Want: "absent",
				Refused: "shards may be added, never removed: the catalogue may still send jobs there",
			})
		}
	}
	return configs, changes, nil
}

// CheckServer refuses servers that are too old, with KindUnsupported.
func CheckServer(version string) error {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, errX := strconv.Atoi(strings.TrimPrefix(major, "v"))
	y, errY := strconv.Atoi(minor)
	if errX != nil || errY != nil || x < minServerMajor || x == minServerMajor && y < minServerMinor {
		return schemas.Errorf(schemas.KindUnsupported, "nats-server %q is older than %d.%d, which this network needs", version, minServerMajor, minServerMinor)
	}
	return nil
}

// streams lists all streams of the account.
func (b *Bus) streams(ctx context.Context) (map[string]*jetstream.StreamInfo, error) {
	var all map[string]*jetstream.StreamInfo
	err := b.retry(ctx, func(ctx context.Context) error {
		return b.watchDenial(ctx, b.api("STREAM.LIST"), func(ctx context.Context) error {
			all = map[string]*jetstream.StreamInfo{}
			list := b.js.ListStreams(ctx)
			for info := range list.Info() {
				all[info.Config.Name] = info
			}
			return list.Err()
		})
	})
	return all, err
}

// api is a subject of the JetStream API as this account imports it.
func (b *Bus) api(verb string) string { return b.conf.APIPrefix + "." + verb }

// differences compares one stream field by field.
func differences(info *jetstream.StreamInfo, want jetstream.StreamConfig) []Change {
	have, wanted := fieldsOf(info.Config), fieldsOf(want)
	names := make([]string, 0, len(wanted))
	for name := range wanted {
		names = append(names, name)
	}
	for name := range have {
		if _, ok := wanted[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var changes []Change
	for _, name := range names {
		if have[name] != wanted[name] {
			changes = append(changes, Change{
				Stream: want.Name, Field: name, Have: have[name], Want: wanted[name],
				Refused: refusal(name, info, want),
			})
		}
	}
	return changes
}

// fieldsOf spells a configuration field by field, without fields that say nothing and without the server's own metadata.
func fieldsOf(c jetstream.StreamConfig) map[string]string {
	kept := map[string]string{}
	for k, v := range c.Metadata {
		if !strings.HasPrefix(k, "_nats.") {
			kept[k] = v
		}
	}
	c.Metadata = kept
	text, err := json.Marshal(c)
	if err != nil {
		panic("streams: a stream configuration always marshals: " + err.Error())
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		panic("streams: what was marshalled unmarshals: " + err.Error())
	}
	fields := map[string]string{}
	for name, value := range raw {
		switch v := string(bytes.TrimSpace(value)); v {
		case "null", "false", "0", "-1", `""`, "[]", "{}":
		default:
			fields[name] = v
		}
	}
	return fields
}

// refusal says why a field of an existing stream may not change, or "".
func refusal(field string, info *jetstream.StreamInfo, want jetstream.StreamConfig) string {
	have := info.Config
	lower := func(a, b int64) bool { return b > 0 && (a <= 0 || b < a) }
	switch field {
	case "storage", "retention", "persist_mode":
		return "the server cannot change it; make the stream anew"
	case "num_replicas":
		if want.Replicas < have.Replicas {
			return "fewer replicas would weaken what was acknowledged"
		}
	case "sealed":
		return "a sealed stream stays sealed"
	}
	if info.State.Msgs == 0 {
		return ""
	}
	switch {
	case field == "subject_transform":
		return "jobs are stored in the lanes of now; apply it when the stream is empty"
	case field == "max_age" && lower(int64(have.MaxAge), int64(want.MaxAge)),
		field == "max_bytes" && lower(have.MaxBytes, want.MaxBytes) && info.State.Bytes > uint64(want.MaxBytes),
		field == "max_msgs" && lower(have.MaxMsgs, want.MaxMsgs) && info.State.Msgs > uint64(want.MaxMsgs),
		field == "max_msgs_per_subject" && lower(have.MaxMsgsPerSubject, want.MaxMsgsPerSubject):
		return fmt.Sprintf("it could drop some of the %d messages stored", info.State.Msgs)
	}
	return ""
}

// Weaknesses looks at the streams that exist and says what about them is weaker than this package promises, whoever made
// them; `cocoon doctor` shows it. It is empty on a network that Apply has made.
func (b *Bus) Weaknesses(ctx context.Context) ([]string, error) {
	var found []string
	if err := CheckServer(b.nc.ConnectedServerVersion()); err != nil {
		found = append(found, err.Error())
	}
	have, err := b.streams(ctx)
	if err != nil {
		return nil, err
	}
	configs, err := Topology{}.WithDefaults().configs()
	if err != nil {
		return nil, err
	}
	for _, want := range configs {
		if have[want.Name] == nil {
			found = append(found, fmt.Sprintf("stream %s is missing: run cocoon topology apply", want.Name))
		}
	}
	for name, info := range have {
		if ours(name, configs) {
			found = append(found, weaknesses(info.Config)...)
		}
	}
	slices.Sort(found)
	return found, nil
}

// ours tells whether a stream belongs to the network.
func ours(name string, configs []jetstream.StreamConfig) bool {
	return strings.HasPrefix(name, "JOBS_") || slices.ContainsFunc(configs, func(c jetstream.StreamConfig) bool { return c.Name == name })
}

// weaknesses lists the settings of one stream that take a guarantee away.
func weaknesses(c jetstream.StreamConfig) []string {
	var found []string
	add := func(bad bool, what string) {
		if bad {
			found = append(found, fmt.Sprintf("stream %s: %s", c.Name, what))
		}
	}
	add(c.AllowRollup, "allows rollups: one message with Nats-Rollup wipes it")
	add(c.AllowMsgSchedules, "allows schedules: a message can make the server publish to any of its subjects")
	add(c.SubjectDeleteMarkerTTL > 0, "leaves delete markers, which are delivered as jobs and lengthen every TTL")
	add(c.PersistMode == jetstream.AsyncPersistMode, "acknowledges before it has written (async persistence)")
	add(c.Storage != jetstream.FileStorage, "lives in memory: a restart loses it")
	add(c.NoAck, "does not acknowledge")
	if strings.HasPrefix(c.Name, "JOBS_") && c.Name != StreamAdvisories {
		add(c.Retention != jetstream.WorkQueuePolicy, "is not a work queue")
		add(c.Discard != jetstream.DiscardNew, "drops the oldest jobs when it is full")
		add(c.MaxConsumers <= 0, "has no consumer limit of its own: the server allows 1,000")
		add(c.MaxAge > 0 && c.MaxAge < JobAge, "drops jobs before their deadline")
	}
	if c.Name == StreamOutcomes {
		add(c.MaxMsgsPerSubject != 1 || c.Discard != jetstream.DiscardNew || !c.DiscardNewPerSubject, "lets a job have a second outcome")
		add(c.MaxAge > 0 && c.MaxAge < OutcomeAge, "drops outcomes before a job's latest deadline")
	}
	return found
}

// sortedKeys lists the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
