package streams

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// How long things are kept. Each is longer than whatever refers to it: a body than its outcome, an outcome than its job.
const (
	// ExpiryGrace is how long a job stays in its queue after its deadline. Control ends it at the deadline; this is for the
	// case that control was away.
	ExpiryGrace = 24 * time.Hour
	// JobAge is the age at which a job leaves its queue in any case.
	JobAge = schemas.MaxLifetime + ExpiryGrace + time.Hour
	// OutcomeAge is how long outcomes can be fetched.
	OutcomeAge = 7 * 24 * time.Hour
	// BodyAge is how long large bodies can be fetched.
	BodyAge = OutcomeAge + JobAge
	// DeadAge, AdvisoryAge and AuditAge are the lives of the operator's records.
	DeadAge     = 30 * 24 * time.Hour
	AdvisoryAge = 7 * 24 * time.Hour
	AuditAge    = 90 * 24 * time.Hour
	// JobDuplicates is how long a job's message id is remembered.
	JobDuplicates = 10 * time.Minute
	// plainDuplicates is the same for streams that do not rely on message ids.
	plainDuplicates = 2 * time.Minute
)

// Sizes of single messages in bytes.
const (
	// maxHeaders is room for the headers of any message: attributes, grant and receipt.
	maxHeaders = 32 << 10
	// maxMessage bounds a message with an inline body.
	maxMessage = schemas.MaxInlineBody + maxHeaders
	// maxValue bounds a key-value entry; with its headers it must fit the server's default max_payload of 1 MiB.
	maxValue = 960 << 10
	// maxAdvisory bounds a stored advisory.
	maxAdvisory = 64 << 10
	// maxAdvisories bounds their number; the oldest go first.
	maxAdvisories = 1_000_000
)

// Topology is the shape of all streams, buckets and stores. The zero value is a development network of one node.
type Topology struct {
	// Shards is the number of job streams. Default 1; it may grow, never shrink.
	Shards int `json:"shards"`
	// Replicas of every stream: 1, 3 or 5. Default 1.
	Replicas int `json:"replicas"`
	// Lanes is the number of parts a hot queue is split into by tenant, 1 to 64. Default 16; fixed once jobs are stored.
	Lanes int `json:"lanes"`
	// Lease is how long a delivered job belongs to its worker without a heartbeat. Default AckWait, at least 1 s. It holds
	// for consumers made from then on.
	Lease Duration `json:"lease"`
	// Deliveries is how often a job is delivered before it is a dead letter. Default MaxDeliver, at least 16. It holds for
	// consumers made from then on.
	Deliveries int `json:"deliveries"`
	// TenantQueue is the largest number of jobs one tenant may have waiting per model and class. Default 100,000.
	TenantQueue int64 `json:"tenant_queue"`
	// ShardJobs bounds one job stream. Default 4,000,000 jobs.
	ShardJobs int64 `json:"shard_jobs"`
	// ShardBytes bounds one job stream and is reserved on the servers. Default 0: what the server has.
	ShardBytes int64 `json:"shard_bytes,omitempty"`
	// ShardConsumers bounds the consumers of one job stream. Default 2,000. Without a number of its own a stream would
	// get the server's default of 1,000.
	ShardConsumers int `json:"shard_consumers"`
	// Streams holds, per stream name, fields of its configuration to set otherwise, in the form of the JetStream API, such
	// as {"OUT": {"max_age": 1209600000000000, "placement": {"tags": ["ssd"]}}}. Only fields that cannot
	// weaken a guarantee are accepted, see tunable.
	Streams map[string]json.RawMessage `json:"streams,omitempty"`
}

// Limits of a topology.
const (
	maxLanes       = 64
	minTenantQueue = 10
	minLease       = time.Second
	minDeliveries  = schemas.MaxAttempts + 6
	maxLease       = 10 * time.Minute
)

// Duration is a time.Duration that JSON spells as in "30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return schemas.FieldError("duration", `must look like "30s"`)
	}
	*d = Duration(v)
	return nil
}

// WithDefaults returns the topology with every zero field set.
func (t Topology) WithDefaults() Topology {
	if t.Shards == 0 {
		t.Shards = 1
	}
	if t.Replicas == 0 {
		t.Replicas = 1
	}
	if t.Lanes == 0 {
		t.Lanes = 16
	}
	if t.Lease == 0 {
		t.Lease = Duration(AckWait)
	}
	if t.Deliveries == 0 {
		t.Deliveries = MaxDeliver
	}
	if t.TenantQueue == 0 {
		t.TenantQueue = 100_000
	}
	if t.ShardJobs == 0 {
		t.ShardJobs = 4_000_000
	}
	if t.ShardConsumers == 0 {
		t.ShardConsumers = 2_000
	}
	return t
}

// Check refuses topologies that nobody may apply.
func (t Topology) Check() error {
	switch {
	case t.Shards < 1 || t.Shards > schemas.MaxShards:
		return schemas.FieldError("shards", "must lie between 1 and 1,024")
	case t.Replicas != 1 && t.Replicas != 3 && t.Replicas != 5:
		return schemas.FieldError("replicas", "must be 1, 3 or 5")
	case t.Lanes < 1 || t.Lanes > maxLanes:
		return schemas.FieldError("lanes", "must lie between 1 and 64")
	case time.Duration(t.Lease) < minLease || time.Duration(t.Lease) > maxLease:
		return schemas.FieldError("lease", "must lie between 1 s and 10 min")
	case t.Deliveries < minDeliveries:
		return schemas.FieldError("deliveries", "must be at least 16")
	case t.TenantQueue < minTenantQueue:
		return schemas.FieldError("tenant_queue", "must be at least 10")
	case t.ShardJobs < t.TenantQueue:
		return schemas.FieldError("shard_jobs", "must be at least tenant_queue")
	case t.ShardBytes < 0:
		return schemas.FieldError("shard_bytes", "must not be negative")
	case t.ShardConsumers < 1:
		return schemas.FieldError("shard_consumers", "must be positive: without a limit the server allows 1,000")
	}
	_, err := t.configs()
	return err
}

// ParseTopology reads a topology strictly and fills in the defaults.
func ParseTopology(text []byte) (Topology, error) {
	const limit = 1 << 20
	var t Topology
	if err := schemas.DecodeJSON(text, &t, limit); err != nil {
		return t, err
	}
	t = t.WithDefaults()
	return t, t.Check()
}

// configs is the whole topology: every stream of the network, in the order in which they are made.
func (t Topology) configs() ([]jetstream.StreamConfig, error) {
	list := t.jobs()
	list = append(list, t.records()...)
	list = append(list, t.bodies()...)
	list = append(list, t.buckets()...)
	for i := range list {
		c := &list[i]
		c.Storage = jetstream.FileStorage
		c.Replicas = t.Replicas
		c.AllowDirect = true // reads by subject without consumers; on R3 every replica answers
		if c.Duplicates == 0 {
			c.Duplicates = plainDuplicates
			if c.MaxAge != 0 {
				c.Duplicates = min(c.Duplicates, c.MaxAge)
			}
		}
	}
	return list, t.tune(list)
}

// jobs are the sharded work queues. A job waits under q.<shard>.<model>.<class>.<lane>.<tenant>: the server itself puts it
// into the lane of its tenant. Each stored job is announced on wake.>, headers only.
func (t Topology) jobs() []jetstream.StreamConfig {
	var list []jetstream.StreamConfig
	for shard := range t.Shards {
		list = append(list, jetstream.StreamConfig{
			Name:        StreamJobs(shard),
			Description: "sealed jobs that wait for a worker",
			Subjects:    []string{fmt.Sprintf("jobs.%d.*.*.*", shard)},
			SubjectTransform: &jetstream.SubjectTransformConfig{
				Source:      fmt.Sprintf("jobs.%d.*.*.*", shard),
				Destination: fmt.Sprintf("q.%d.{{wildcard(1)}}.{{wildcard(2)}}.{{partition(%d,3)}}.{{wildcard(3)}}", shard, t.Lanes),
			},
			RePublish: &jetstream.RePublish{
				Source:      fmt.Sprintf("q.%d.*.*.*.*", shard),
				Destination: fmt.Sprintf("wake.%d.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}", shard),
				HeadersOnly: true,
			},
			Retention:            jetstream.WorkQueuePolicy,
			Discard:              jetstream.DiscardNew,
			DiscardNewPerSubject: true,
			MaxMsgsPerSubject:    t.TenantQueue,
			MaxMsgs:              t.ShardJobs,
			MaxBytes:             t.ShardBytes,
			MaxMsgSize:           maxMessage,
			MaxConsumers:         t.ShardConsumers,
			MaxAge:               JobAge,
			AllowMsgTTL:          true,
			Duplicates:           JobDuplicates,
			Metadata:             map[string]string{metaLanes: strconv.Itoa(t.Lanes), metaLease: time.Duration(t.Lease).String(), metaDeliveries: strconv.Itoa(t.Deliveries)},
		})
	}
	return list
}

// records are the streams of outcomes, dead letters, advisories and decisions.
func (t Topology) records() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name:        StreamOutcomes,
			Description: "the one outcome of each job",
			Subjects:    []string{"out.*.*"},
			RePublish:   &jetstream.RePublish{Source: "out.*.*", Destination: "res.{{wildcard(1)}}.{{wildcard(2)}}"},
			// One message per subject and no second one, whatever its headers say: a worker that leaves out the
			// compare-and-set is refused by the stream itself.
			Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
			MaxMsgSize: maxMessage, MaxAge: OutcomeAge,
		},
		{
			Name: StreamDead, Description: "jobs that could not be finished, sealed",
			Subjects:   []string{"dlq.*.*.*.*"},
			MaxMsgSize: maxMessage, MaxAge: DeadAge, Duplicates: JobDuplicates,
		},
		{
			Name: StreamAdvisories, Description: "notes of the server about jobs delivered too often",
			Subjects:   []string{"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.*.*"},
			MaxMsgSize: maxAdvisory, MaxMsgs: maxAdvisories, MaxAge: AdvisoryAge,
		},
		{
			Name: StreamAudit, Description: "decisions of the brokers, hashes only",
			Subjects:   []string{"audit.*"},
			MaxMsgSize: maxAdvisory, MaxAge: AuditAge, DenyDelete: true, DenyPurge: true,
		},
	}
}

// bodies are the object stores.
func (t Topology) bodies() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name: streamBodies, Description: "sealed bodies too large for a message",
			Subjects: []string{"body.*.*.*"}, MaxMsgSize: maxMessage, MaxAge: BodyAge,
			// What is stored is never replaced: a body is named by its hash.
			Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
		},
		{
			Name: string(StoreWeights), Description: "sealed model weights",
			Subjects: []string{prefixWeights + ".*.*"}, MaxMsgsPerSubject: 1, MaxMsgSize: maxMessage,
		},
	}
}

// buckets are the key-value buckets: the wire form of NATS KV, with changes republished, so that watchers need no consumer.
func (t Topology) buckets() []jetstream.StreamConfig {
	var list []jetstream.StreamConfig
	for _, name := range Buckets() {
		list = append(list, jetstream.StreamConfig{
			Name: name.stream(), Description: "key-value bucket " + string(name),
			Subjects:          []string{name.subject(">")},
			RePublish:         &jetstream.RePublish{Source: name.subject(">"), Destination: name.live(">")},
			MaxMsgsPerSubject: 1, MaxMsgSize: maxValue + maxHeaders, MaxAge: name.ttl(),
			Discard: jetstream.DiscardNew, DenyDelete: true,
		})
	}
	return list
}

// Metadata of a job stream: what consumers on it are made with. A queue's first consumer has metaLanes too.
const (
	metaLanes      = "cocoon-lanes"
	metaLease      = "cocoon-lease"
	metaDeliveries = "cocoon-deliveries"
)

// tunable are the fields that an operator may set otherwise, by their names in the JetStream API.
var tunable = []string{
	"description", "max_age", "max_bytes", "max_msgs", "max_consumers", "max_msgs_per_subject",
	"duplicate_window", "num_replicas", "placement", "compression",
}

// tune merges Streams into the configurations and refuses what would weaken them.
func (t Topology) tune(list []jetstream.StreamConfig) error {
	for name, text := range t.Streams {
		i := slices.IndexFunc(list, func(c jetstream.StreamConfig) bool { return c.Name == name })
		if i < 0 {
			return schemas.FieldError("streams."+name, "is not a stream of this topology")
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil {
			return schemas.FieldError("streams."+name, "must be a JSON object")
		}
		for field := range fields {
			if !slices.Contains(tunable, field) {
				return schemas.FieldError("streams."+name+"."+field, "may not be set otherwise: it carries a guarantee")
			}
		}
		before := list[i]
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&list[i]); err != nil {
			return schemas.FieldError("streams."+name, err.Error())
		}
		if err := weaker(before, list[i]); err != nil {
			return err
		}
	}
	return nil
}

// weaker refuses a configuration that keeps less than the one before.
func weaker(before, after jetstream.StreamConfig) error {
	shorter := func(a, b int64) bool { return b > 0 && (a <= 0 || b < a) }
	at := "streams." + after.Name + "."
	switch {
	case shorter(int64(before.MaxAge), int64(after.MaxAge)):
		return schemas.FieldError(at+"max_age", "may not be shorter than "+before.MaxAge.String()+": something refers to it for so long")
	case before.MaxAge > 0 && after.MaxAge <= 0:
		return schemas.FieldError(at+"max_age", "may not be unlimited")
	case after.Duplicates < before.Duplicates:
		return schemas.FieldError(at+"duplicate_window", "may not be shorter than "+before.Duplicates.String())
	case after.Replicas < before.Replicas:
		return schemas.FieldError(at+"num_replicas", "may not be lower than the topology's replicas")
	case after.Retention == jetstream.WorkQueuePolicy && after.MaxConsumers <= 0:
		return schemas.FieldError(at+"max_consumers", "must be positive")
	case before.MaxMsgsPerSubject == 1 && after.MaxMsgsPerSubject != 1, after.Retention == jetstream.WorkQueuePolicy && after.MaxMsgsPerSubject <= 0:
		return schemas.FieldError(at+"max_msgs_per_subject", "may not be changed to that")
	case after.Discard == jetstream.DiscardOld && before.MaxBytes <= 0 && after.MaxBytes > 0,
		after.Discard == jetstream.DiscardOld && shorter(before.MaxMsgs, after.MaxMsgs):
		return schemas.FieldError(at+"max_bytes", "would make this stream drop its oldest messages")
	}
	return nil
}
