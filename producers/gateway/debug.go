package gateway

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/schemas"
)

// debugForm is "debug" of an answer whose request had enable_debug.
type debugForm struct {
	Client debugPart `json:"client"`
	Worker debugPart `json:"worker"`
	// Job and the rest say what ran where.
	Job         schemas.JobID       `json:"job"`
	Model       schemas.ModelID     `json:"model"`
	WorkerID    schemas.WorkerID    `json:"worker_id"`
	Attempt     int                 `json:"attempt"`
	Multiplier  schemas.BasisPoints `json:"multiplier_bp"`
	Environment schemas.Environment `json:"environment"`
	Fingerprint string              `json:"fingerprint"`
}

// debugPart is the time that one part of the way took, in the original network's words.
type debugPart struct {
	Type    string  `json:"type"`
	Start   float64 `json:"start_time"`
	Begin   float64 `json:"answer_receive_start_at"`
	End     float64 `json:"answer_receive_end_at"`
	Seconds float64 `json:"seconds"`
}

// unix spells a time as seconds with a fraction.
func unix(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// debug is the debug object of an answer.
func (q *request) debug(a *producers.Answer) []byte {
	now := time.Now()
	form := debugForm{
		Client: debugPart{"client", unix(q.arrived), unix(now), unix(now), now.Sub(q.arrived).Seconds()},
		Worker: debugPart{"worker", unix(a.Started), unix(a.Started.Add(a.FirstToken)), unix(a.Finished), a.Total.Seconds()},
		Job:    a.Job, Model: a.Model, WorkerID: a.Worker, Attempt: a.Attempt, Multiplier: a.Multiplier, Environment: a.Environment,
		Fingerprint: a.Fingerprint,
	}
	b, err := json.Marshal(form)
	if err != nil {
		panic("gateway: a debug object always marshals: " + err.Error())
	}
	return b
}

// maxGUIDs bounds the request_guids that are remembered.
const maxGUIDs = 10_000

// guidTable remembers which job a request_guid was, the oldest forgotten first.
type guidTable struct {
	jobs  map[string]schemas.JobID
	order []string
}

func newGUIDTable() guidTable { return guidTable{jobs: map[string]schemas.JobID{}} }

// remember notes the job of a request_guid. Guids of different API keys are different.
func (g *Gateway) remember(c *caller, guid string, job schemas.JobID) {
	if guid == "" {
		return
	}
	name := c.owner() + "/" + guid
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.guids.jobs[name]; !known {
		if len(g.guids.order) >= maxGUIDs {
			delete(g.guids.jobs, g.guids.order[0])
			g.guids.order = g.guids.order[1:]
		}
		g.guids.order = append(g.guids.order, name)
	}
	g.guids.jobs[name] = job
}

// jobOf finds a job by its id or by the request_guid it came with.
func (g *Gateway) jobOf(c *caller, name string) schemas.JobID {
	g.mu.Lock()
	defer g.mu.Unlock()
	if job, known := g.guids.jobs[c.owner()+"/"+name]; known {
		return job
	}
	return schemas.JobID(name)
}

// receiptForm is what GET /v1/receipts/{job} answers: everything with which anybody can check what was charged.
type receiptForm struct {
	Object        string              `json:"object"`
	Job           schemas.JobID       `json:"job"`
	Status        schemas.Status      `json:"status"`
	Model         schemas.ModelID     `json:"model"`
	Worker        schemas.WorkerID    `json:"worker,omitempty"`
	Usage         schemas.Usage       `json:"usage"`
	Charge        schemas.Charge      `json:"charge"`
	Multiplier    schemas.BasisPoints `json:"multiplier_bp"`
	Catalogue     uint64              `json:"catalogue"`
	Environment   schemas.Environment `json:"environment,omitempty"`
	Started       *time.Time          `json:"started,omitempty"`
	Finished      *time.Time          `json:"finished,omitempty"`
	Receipt       string              `json:"receipt,omitempty"`
	Grant         string              `json:"grant,omitempty"`
	GrantVerified bool                `json:"grant_verified"`
}

// getReceipt answers with a job's receipt and grant. The id of a job is a secret of who submitted it.
func (g *Gateway) getReceipt(w http.ResponseWriter, r *http.Request, c *caller) error {
	s, err := g.o.Client.Get(r.Context(), g.jobOf(c, r.PathValue("job")))
	if err != nil {
		return err
	}
	if s.State != producers.StateDone {
		return &schemas.Error{Kind: schemas.KindNotFound, Field: "job", Message: "has no receipt yet"}
	}
	a := s.Answer
	if a == nil {
		return &schemas.Error{Kind: schemas.KindNotFound, Field: "job", Message: "ended without an answer and owes nothing: " + s.Err.Error()}
	}
	form := receiptForm{
		Object: "receipt", Job: a.Job, Status: a.Status, Model: a.Model, Worker: a.Worker, Usage: a.Usage, Charge: a.Charge,
		Multiplier: a.Multiplier, Catalogue: a.Catalogue, Environment: a.Environment, Receipt: a.Receipt, Grant: a.Grant, GrantVerified: a.GrantVerified,
	}
	if !a.Started.IsZero() {
		form.Started, form.Finished = &a.Started, &a.Finished
	}
	return g.writeJSON(w, form)
}
