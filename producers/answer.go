package producers

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
)

// Answer is the verified outcome of a job.
type Answer struct {
	// Job is the id, Model the exact weights that ran.
	Job   schemas.JobID
	Model schemas.ModelID
	// Status is how the job ended. Only Succeeded has an answer in full; Cancelled may have the part that was paid for.
	Status schemas.Status
	// HTTP is the engine's status, ContentType and Body its response as a call without streaming gives it.
	HTTP        int
	ContentType string
	Body        []byte
	// FinishReason of the first choice: stop, length, tool_calls, content_filter; empty where there is none.
	FinishReason string
	// Usage is what the receipt states and Charge what that costs by the catalogue and the grant: zero when nothing is
	// owed, never above the job's ceiling.
	Usage  schemas.Usage
	Charge schemas.Charge
	// Multiplier is the price multiplier of the grant and Catalogue the version whose prices held.
	Multiplier schemas.BasisPoints
	Catalogue  uint64
	// Worker ran it and Attempt counts from 1. Environment says whether its hardware was real.
	Worker      schemas.WorkerID
	Attempt     int
	Environment schemas.Environment
	// Submitted is when the job was sealed, Started and Finished bound the run.
	Submitted, Started, Finished time.Time
	// Queue, FirstToken and Total are the engine's own times.
	Queue, FirstToken, Total time.Duration
	// Fingerprint names engine, version, weights and instruction set.
	Fingerprint string
	// Grant and Receipt are the compact JWS behind the charge; empty when nothing is owed.
	Grant, Receipt string
	// GrantVerified says that the grant's signature was checked with the key of a broker that attested itself to this
	// client. It is false for an old outcome whose broker is gone; the receipt is always verified against the grant, and
	// the result opens only if who opened the job made it.
	GrantVerified bool
}

// Text is the text of the first choice, empty when the answer has none.
func (a *Answer) Text() string { return openai.Text(a.Body) }

// Priced is the body with what the answer cost in its usage, in nanoTON, under the names of the original network:
// prompt_total_cost, completion_total_cost and total_cost. A body without usage, such as speech, is returned as it is.
func (a *Answer) Priced() []byte {
	o, err := openai.ParseObject(a.Body)
	if err != nil {
		return a.Body
	}
	usage, err := o.Object("usage")
	if err != nil || usage == nil {
		return a.Body
	}
	return o.With("usage", PricedUsage(usage, a.Charge).Append(nil)).Append(make([]byte, 0, len(a.Body)+pricedRoom))
}

// pricedRoom is about what the cost takes in a body.
const pricedRoom = 128

// PricedUsage adds a charge to a usage object, in nanoTON.
func PricedUsage(usage openai.Object, c schemas.Charge) openai.Object {
	for _, f := range []struct {
		name string
		v    schemas.NanoTON
	}{{"prompt_total_cost", c.PromptCost}, {"completion_total_cost", c.CompletionCost}, {"total_cost", c.Total}} {
		usage = usage.With(f.name, strconv.AppendInt(nil, int64(f.v), 10))
	}
	return usage
}

// Event is one step of a streamed answer.
type Event struct {
	// Data is the JSON object of one server-sent event (for chat: a chat.completion.chunk). Empty in the last event.
	Data json.RawMessage
	// More says that the next event is here already: who passes events on may send them together.
	More bool
	// Answer is set in the last event only.
	Answer *Answer
}
