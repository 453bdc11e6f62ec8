package access

import (
	"slices"
	"strconv"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Role names what a user of the network is.
type Role string

// The roles.
const (
	RoleProducer  Role = "producer"
	RoleWorker    Role = "worker"
	RoleHost      Role = "host"
	RoleBroker    Role = "broker"
	RoleSettler   Role = "settler"
	RoleControl   Role = "control"
	RoleOperator  Role = "operator"
	RoleDashboard Role = "dashboard"
)

// Services lists the roles of trusted services, which share an account in production.
func Services() []Role {
	return []Role{RoleBroker, RoleSettler, RoleControl, RoleOperator, RoleDashboard}
}

// Of returns the permissions of a trusted service.
func Of(role Role) (Permissions, error) {
	switch role {
	case RoleBroker:
		return Broker(), nil
	case RoleSettler:
		return Settler(), nil
	case RoleControl:
		return Control(), nil
	case RoleOperator:
		return Operator(), nil
	case RoleDashboard:
		return Dashboard(), nil
	}
	return Permissions{}, schemas.FieldError("role", "must be broker, settler, control, operator or dashboard")
}

// Permissions are the subjects a user may publish and subscribe to; everything else is denied.
type Permissions struct {
	Publish   []string
	Subscribe []string
	// Answer lets the user answer the requests it receives, on whatever subject these name, once each.
	Answer bool
}

// The JetStream API in its own account, and as the workers' account imports it: under its own name the server would answer
// that the workers' account has no JetStream.
const (
	apiOwn      = "$JS.API"
	APIImported = "app.API"
)

// Inbox is the prefix of a user's reply subjects; pass it as streams.Config.Inbox.
func Inbox(user string) string { return "_INBOX_" + user }

// inbox is what a user subscribes to for its replies.
func inbox(user string) string { return Inbox(user) + ".>" }

// stream is the stream behind a bucket.
func stream(b streams.BucketName) string { return "KV_" + string(b) }

// read gives the right to read buckets: by key, in pages, and live.
func (p *Permissions) read(api string, buckets ...streams.BucketName) {
	for _, b := range buckets {
		p.Publish = append(p.Publish, api+".DIRECT.GET."+stream(b), api+".DIRECT.GET."+stream(b)+".$KV."+string(b)+".>")
		p.Subscribe = append(p.Subscribe, "kv."+string(b)+".>")
	}
}

// publish adds rights to publish.
func (p *Permissions) publish(subjects ...string) { p.Publish = append(p.Publish, subjects...) }

// subscribe adds rights to subscribe.
func (p *Permissions) subscribe(subjects ...string) { p.Subscribe = append(p.Subscribe, subjects...) }

// sorted puts the tables into a fixed order without repetitions.
func (p Permissions) sorted() Permissions {
	for _, list := range []*[]string{&p.Publish, &p.Subscribe} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return p
}

// workerVerbs is what workers ask of brokers.
var workerVerbs = []string{streams.VerbChallenge, streams.VerbSession, streams.VerbGrant, streams.VerbRenew, streams.VerbRelease, streams.VerbAttest}

// public are the buckets with signed documents that everybody verifies for themselves.
var public = []streams.BucketName{streams.BucketKeys, streams.BucketPolicy, streams.BucketCatalogue, streams.BucketCollateral}

// Producer may submit and cancel jobs of one tenant and read what belongs to it.
func Producer(tenant schemas.TenantID) Permissions {
	t := string(tenant)
	var p Permissions
	p.publish(
		"jobs.*.*.*."+t,
		"body."+t+".*.*",
		"ctl.cancel."+t+".*",
		apiOwn+".DIRECT.GET.OUT.out."+t+".*",
		apiOwn+".DIRECT.GET.BODIES.body."+t+".*.*",
		apiOwn+".DIRECT.GET.KV_CREDIT.$KV.CREDIT."+t,
	)
	p.read(apiOwn, public...)
	p.subscribe(inbox(t), "res."+t+".*", "chunk."+t+".*", "kv.CREDIT."+t)
	return p.sorted()
}

// WorkerUser says which worker a user is and what it may serve.
type WorkerUser struct {
	// Worker is its id, which names its inbox and its entry in WORKERS.
	Worker schemas.WorkerID
	// Models are the queues it may take from.
	Models []streams.Route
	// Lanes is the topology's number of lanes.
	Lanes int
	// API is the prefix of the JetStream API in its account: "" for its own, or APIImported.
	API string
}

// Worker may take jobs of its models from their queues, ask brokers for grants, and store outcomes. That it may store an
// outcome for any job is no danger: an outcome counts by its signed grant and receipt, and the first one stands.
func Worker(w WorkerUser) Permissions {
	api := w.API
	if api == "" {
		api = apiOwn
	}
	id := string(w.Worker)
	var p Permissions
	for _, m := range w.Models {
		shard := strconv.Itoa(m.Shard)
		p.publish("ctl.ensure."+shard+"."+m.Slug+".*", "wake."+shard+"."+m.Slug+".*.*", "dlq."+m.Slug+".*.*.*")
		p.subscribe("wake."+shard+"."+m.Slug+".*.*", "ctl.stop."+m.Slug, "ctl.lanes."+m.Slug)
		for _, class := range schemas.Classes() {
			for lane := range max(1, w.Lanes) {
				p.consumer(api, streams.StreamJobs(m.Shard), streams.QueueName(m.Slug, class, lane))
			}
		}
	}
	p.publish(
		"out.*.*", "body.*.*.*", "chunk.*.*", "ctl.claim.*", "ctl.backlog", "$KV.WORKERS.worker."+id,
		api+".DIRECT.GET.OUT.out.*.*", api+".DIRECT.GET.BODIES.body.*.*.*", api+".DIRECT.GET.WEIGHTS.weight.*.*",
	)
	for _, verb := range workerVerbs {
		p.publish(streams.SubjectBroker(verb))
	}
	p.read(api, append([]streams.BucketName{streams.BucketFleet, streams.BucketWorkers}, public...)...)
	p.subscribe(inbox(id))
	return p.sorted()
}

// consumer gives the right to pull from one consumer and to acknowledge. Acknowledgements have a second form, with domain
// and account, which the server may use from 2.15 on.
func (p *Permissions) consumer(api, stream, name string) {
	p.publish(
		api+".CONSUMER.INFO."+stream+"."+name, api+".CONSUMER.MSG.NEXT."+stream+"."+name,
		"$JS.ACK."+stream+"."+name+".>", "$JS.ACK.*.*."+stream+"."+name+".>",
	)
}

// Host is the process that starts and stops workers on a machine: it reads wishes, workers and backlog.
func Host(user, api string) Permissions {
	if api == "" {
		api = apiOwn
	}
	var p Permissions
	p.publish("ctl.backlog")
	p.read(api, streams.BucketFleet, streams.BucketWorkers, streams.BucketCatalogue, streams.BucketPolicy)
	p.subscribe(inbox(user))
	return p.sorted()
}

// Broker may answer workers, publish keys and collateral, and write down its decisions.
func Broker() Permissions {
	var p Permissions
	for _, verb := range append([]string{streams.VerbJoin}, workerVerbs...) {
		p.subscribe(streams.SubjectBroker(verb))
	}
	// A broker that joins the others is challenged by them.
	p.publish(streams.SubjectBroker(streams.VerbChallenge), streams.SubjectBroker(streams.VerbJoin), "broker.gossip", "audit.*", "$KV.KEYS.>", "$KV.COLLATERAL.>",
		"$KV.EVIDENCE.*.*", apiOwn+".DIRECT.GET.WEIGHTS.weight.*.*")
	p.subscribe("broker.gossip", inbox(string(RoleBroker)))
	p.read(apiOwn, append([]streams.BucketName{streams.BucketCredit, streams.BucketWorkers, streams.BucketFleet}, public...)...)
	p.Answer = true
	return p.sorted()
}

// Settler may read outcomes, without their bodies as far as it keeps to its consumer, and publish credit and statements.
func Settler() Permissions {
	var p Permissions
	p.publish(
		apiOwn+".STREAM.INFO.OUT", apiOwn+".CONSUMER.CREATE.OUT.*", apiOwn+".CONSUMER.CREATE.OUT.*.>",
		apiOwn+".CONSUMER.MSG.NEXT.OUT.*", apiOwn+".CONSUMER.INFO.OUT.*", apiOwn+".CONSUMER.DELETE.OUT.*",
		"$KV.CREDIT.>", "$KV.STATEMENTS.>",
	)
	p.read(apiOwn, append([]streams.BucketName{streams.BucketCredit, streams.BucketStatements}, public...)...)
	p.subscribe(inbox(string(RoleSettler)))
	return p.sorted()
}

// Control may look at every queue, end jobs, and make consumers.
func Control() Permissions {
	var p Permissions
	p.publish(
		apiOwn+".INFO", apiOwn+".STREAM.LIST", apiOwn+".STREAM.INFO.*", apiOwn+".STREAM.MSG.GET.*", apiOwn+".STREAM.MSG.DELETE.*",
		apiOwn+".CONSUMER.CREATE.*.*", apiOwn+".CONSUMER.CREATE.*.*.>", apiOwn+".CONSUMER.INFO.*.*", apiOwn+".CONSUMER.LIST.*",
		apiOwn+".CONSUMER.DELETE.*.*", apiOwn+".CONSUMER.MSG.NEXT.OUT.*", apiOwn+".CONSUMER.MSG.NEXT.JOBS_ADV.control",
		apiOwn+".DIRECT.GET.*", apiOwn+".DIRECT.GET.*.>",
		"$JS.ACK.JOBS_ADV.control.>", "$JS.ACK.*.*.JOBS_ADV.control.>",
		"out.*.*", "dlq.*.*.*.*", "ctl.stop.*", "ctl.lanes.*", "$KV.WORKERS.reputation.*", "$KV.WORKERS.owner.*",
	)
	p.subscribe("ctl.cancel.*.*", "ctl.ensure.*.*.*", "ctl.backlog", "ctl.claim.*", "wake.>", inbox(string(RoleControl)))
	p.read(apiOwn, append([]streams.BucketName{streams.BucketWorkers, streams.BucketFleet}, public...)...)
	p.Answer = true
	return p.sorted()
}

// Operator may shape the streams, publish signed documents and wishes, and look after queues and dead letters.
func Operator() Permissions {
	var p Permissions
	p.publish(
		apiOwn+".INFO", apiOwn+".STREAM.CREATE.*", apiOwn+".STREAM.UPDATE.*", apiOwn+".STREAM.INFO.*",
		apiOwn+".STREAM.LIST", apiOwn+".STREAM.NAMES", apiOwn+".STREAM.MSG.GET.*", apiOwn+".STREAM.MSG.DELETE.DLQ", apiOwn+".STREAM.MSG.DELETE.OUT",
		apiOwn+".STREAM.PURGE.WEIGHTS",
		apiOwn+".CONSUMER.CREATE.*.*", apiOwn+".CONSUMER.CREATE.*.*.>", apiOwn+".CONSUMER.INFO.*.*", apiOwn+".CONSUMER.LIST.*",
		apiOwn+".CONSUMER.DELETE.*.*", apiOwn+".CONSUMER.PAUSE.*.*", apiOwn+".DIRECT.GET.*", apiOwn+".DIRECT.GET.*.>",
		"jobs.*.*.*.*", prefixWeights, "$KV.KEYS.>", "$KV.POLICY.>", "$KV.CATALOGUE.>", "$KV.FLEET.>", "$KV.COLLATERAL.>",
		"ctl.backlog", "ctl.ensure.*.*.*", "ctl.cancel.*.*", "ctl.lanes.*",
	)
	for _, verb := range []string{streams.VerbAttest, streams.VerbChallenge} {
		p.publish(streams.SubjectBroker(verb))
	}
	p.read(apiOwn, streams.Buckets()...)
	p.subscribe(inbox(string(RoleOperator)), "$JS.EVENT.>")
	return p.sorted()
}

// prefixWeights covers all weights.
const prefixWeights = "weight.*.*"

// Dashboard may look, and nothing else.
func Dashboard() Permissions {
	var p Permissions
	p.publish(apiOwn+".INFO", apiOwn+".STREAM.LIST", apiOwn+".STREAM.INFO.*", apiOwn+".CONSUMER.LIST.*",
		apiOwn+".CONSUMER.CREATE.OUT.*", apiOwn+".CONSUMER.CREATE.OUT.*.>", apiOwn+".CONSUMER.MSG.NEXT.OUT.*", apiOwn+".CONSUMER.INFO.OUT.*",
		apiOwn+".DIRECT.GET.OUT", apiOwn+".DIRECT.GET.OUT.out.*.*", apiOwn+".DIRECT.GET.DLQ", apiOwn+".DIRECT.GET.AUDIT",
		"ctl.backlog")
	p.read(apiOwn, streams.Buckets()...)
	p.subscribe(inbox(string(RoleDashboard)), "wake.>", "res.*.*")
	return p.sorted()
}
