package streams

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// Subjects of the network. Placeholders in comments are single tokens [a-z0-9_-].
//
//	jobs.<shard>.<model>.<class>.<tenant>         a sealed job, as the producer publishes it
//	q.<shard>.<model>.<class>.<lane>.<tenant>     the same job, as its stream stores it
//	wake.<shard>.<model>.<class>.<lane>           its headers, republished: a job has arrived
//	out.<tenant>.<job>                            the outcome of a job
//	res.<tenant>.<job>                            the same outcome, republished live
//	chunk.<tenant>.<job>                          sealed token chunks, core NATS, never stored
//	dlq.<model>.<class>.<tenant>.<job>            a dead letter
//	body.<tenant>.<hash>.<part>                   a part of a body too large for a message
//	weight.<name>.<part>                          a part of sealed weights
//	audit.<who>                                   decisions of a broker, hashes only
//	ctl.cancel.<tenant>.<job>                     request: cancel a job
//	ctl.stop.<model>                              note to the workers of a model: stop a job
//	ctl.claim.<job>                               answer of the worker that runs it
//	ctl.lanes.<model>                             note to the workers of a model: its queues have changed
//	ctl.ensure.<shard>.<model>.<class>            request: create the queue's consumer
//	ctl.backlog                                   request: what waits
//	broker.<verb>                                 requests to the key brokers
//	broker.gossip                                 what brokers tell each other, not stored
//	kv.<bucket>.<key>                             a key-value entry, republished live

// BrokerGroup is the queue group of all brokers: each request reaches one of them.
const BrokerGroup = "broker"

// Verbs that a broker answers, each on [SubjectBroker]. Workers use those of BrokerVerbsWorker; join is between brokers.
const (
	VerbChallenge = "challenge"
	VerbSession   = "session"
	VerbGrant     = "grant"
	VerbRenew     = "renew"
	VerbRelease   = "release"
	VerbAttest    = "attest"
	VerbJoin      = "join"
)

// SubjectBroker is where a broker answers a verb.
func SubjectBroker(verb string) string { return "broker." + verb }

// subjectGossip carries what brokers tell each other, to each of them.
const subjectGossip = "broker.gossip"

// maxGossip bounds one piece of gossip, gossipBuffer how many wait to be read.
const (
	maxGossip    = 64 << 10
	gossipBuffer = 4096
)

// Subjects of requests that the control service answers, each in the queue group [ControlGroup].
const (
	SubjectBacklog = "ctl.backlog"
	// ControlGroup is the queue group of all control services.
	ControlGroup = "control"
)

// Names of the streams that are not sharded.
const (
	StreamOutcomes   = "OUT"
	StreamDead       = "DLQ"
	StreamAdvisories = "JOBS_ADV"
	StreamAudit      = "AUDIT"
)

// Route names the queues of a model: its shard and its subject token.
type Route struct {
	// Shard is the job stream, from the catalogue; it is never computed.
	Shard int `json:"shard"`
	// Slug is the model's subject token, see [schemas.ModelRef.Slug].
	Slug string `json:"slug"`
}

// RouteOf is the route of a catalogue entry.
func RouteOf(m *schemas.Model) Route { return Route{Shard: m.Shard, Slug: m.Slug} }

// Check refuses routes that could not be part of a subject.
func (r Route) Check() error {
	if r.Shard < 0 || r.Shard >= schemas.MaxShards {
		return schemas.FieldError("shard", "must lie between 0 and 1,023")
	}
	if !schemas.ValidToken(r.Slug) {
		return schemas.FieldError("slug", "must be one subject token of a-z, 0-9, _ and -")
	}
	return nil
}

// String is "<shard>.<slug>".
func (r Route) String() string { return strconv.Itoa(r.Shard) + "." + r.Slug }

// ParseRoute reads "<shard>.<slug>", the form of String.
func ParseRoute(s string) (Route, error) {
	shard, slug, _ := strings.Cut(s, ".")
	n, err := strconv.Atoi(shard)
	if err != nil || strconv.Itoa(n) != shard {
		return Route{}, schemas.FieldError("route", "must look like SHARD.SLUG")
	}
	r := Route{Shard: n, Slug: slug}
	return r, r.Check()
}

// StreamJobs is the name of a shard's job stream.
func StreamJobs(shard int) string { return "JOBS_" + strconv.Itoa(shard) }

// SubjectJob is where a job is published.
func SubjectJob(r Route, class schemas.Class, tenant schemas.TenantID) string {
	return fmt.Sprintf("jobs.%d.%s.%s.%s", r.Shard, r.Slug, class, tenant)
}

// SubjectOutcome is where the outcome of a job is stored.
func SubjectOutcome(tenant schemas.TenantID, job schemas.JobID) string {
	return "out." + string(tenant) + "." + string(job)
}

// subjectResult is where the same outcome is heard live. "*" stands for all jobs of the tenant.
func subjectResult(tenant schemas.TenantID, job string) string {
	return "res." + string(tenant) + "." + job
}

// subjectChunk carries a job's live chunks.
func subjectChunk(tenant schemas.TenantID, job schemas.JobID) string {
	return "chunk." + string(tenant) + "." + string(job)
}

// subjectDead is where a dead letter is stored.
func subjectDead(slug string, class schemas.Class, tenant schemas.TenantID, job string) string {
	return fmt.Sprintf("dlq.%s.%s.%s.%s", slug, class, tenant, job)
}

// subjectWake is heard when a job arrives in a queue. class and lane may be "*".
func subjectWake(r Route, class, lane string) string {
	return fmt.Sprintf("wake.%d.%s.%s.%s", r.Shard, r.Slug, class, lane)
}

// subjectEnsure asks control for a consumer.
func subjectEnsure(r Route, class schemas.Class) string {
	return fmt.Sprintf("ctl.ensure.%d.%s.%s", r.Shard, r.Slug, class)
}

// subjectCancel asks control to cancel a job.
func subjectCancel(tenant schemas.TenantID, job schemas.JobID) string {
	return "ctl.cancel." + string(tenant) + "." + string(job)
}

// Subjects of the notes between control and the workers of a model.
func subjectStop(slug string) string        { return "ctl.stop." + slug }
func subjectLanes(slug string) string       { return "ctl.lanes." + slug }
func subjectClaim(job schemas.JobID) string { return "ctl.claim." + string(job) }
func subjectAudit(who string) string        { return "audit." + who }
func subjectQueue(r Route, class, lane string) string {
	return fmt.Sprintf("q.%d.%s.%s.%s.*", r.Shard, r.Slug, class, lane)
}
