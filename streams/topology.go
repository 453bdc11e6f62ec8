package streams

import "context"

// Topology is the shape of all streams, buckets and stores. The zero value is a development network of one node.
type Topology struct {
	// Shards is the number of job streams. Default 1; it may grow, never shrink.
	Shards int `json:"shards"`
	// Replicas of every stream: 1, 3 or 5. Default 1.
	Replicas int `json:"replicas"`
	// Lanes is the number of parts a hot queue is split into by tenant. Default 16; fixed once the streams exist.
	Lanes int `json:"lanes"`
	// TenantQueue is the largest number of jobs one tenant may have waiting per model and class. Default 100,000.
	TenantQueue int64 `json:"tenant_queue"`
	// ShardJobs and ShardBytes bound one job stream. Default 4,000,000 jobs and 64 GiB.
	ShardJobs  int64 `json:"shard_jobs"`
	ShardBytes int64 `json:"shard_bytes"`
	// ShardConsumers bounds the consumers of one job stream. Default 2,000.
	ShardConsumers int `json:"shard_consumers"`
}

// Change is one difference between a topology and a cluster.
type Change struct {
	// Stream is the name of the stream; Field what differs ("" when the stream is missing).
	Stream string `json:"stream"`
	Field  string `json:"field,omitempty"`
	// Have and Want are the two values.
	Have string `json:"have,omitempty"`
	Want string `json:"want,omitempty"`
	// Refused tells why Apply would not make the change; empty when it would.
	Refused string `json:"refused,omitempty"`
}

// Apply makes the cluster's streams equal to the topology and returns what it changed. It is idempotent, and it refuses,
// before it changes anything, servers before 2.14 (KindUnsupported) and changes that would lose messages or a
// guarantee (KindConflict).
func (b *Bus) Apply(ctx context.Context, t Topology) ([]Change, error) { panic("unfinished") }

// Diff returns what Apply would change.
func (b *Bus) Diff(ctx context.Context, t Topology) ([]Change, error) { panic("unfinished") }
