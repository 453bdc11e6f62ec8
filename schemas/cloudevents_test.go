package schemas_test

import (
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/cocoon-network/cocoon/schemas"
)

// asEvent puts our headers into the CloudEvents SDK's event. The SDK's own NATS binding neither encodes nor decodes values as
// the binding's text demands, which is why the codec is ours; its event type is what judges the result.
func asEvent(t *testing.T, header map[string][]string) event.Event {
	t.Helper()
	e := event.New(header["ce-specversion"][0])
	for key, values := range header {
		if len(key) < len(schemas.HeaderPrefix) || key[:len(schemas.HeaderPrefix)] != schemas.HeaderPrefix {
			continue
		}
		value := values[0]
		switch name := key[len(schemas.HeaderPrefix):]; name {
		case "specversion":
		case "id":
			e.SetID(value)
		case "source":
			e.SetSource(value)
		case "type":
			e.SetType(value)
		case "subject":
			e.SetSubject(value)
		case "datacontenttype":
			e.SetDataContentType(value)
		case "time":
			at, err := types.ParseTime(value)
			if err != nil {
				t.Fatal(err)
			}
			e.SetTime(at)
		default:
			e.SetExtension(name, value)
		}
	}
	return e
}

// TestCloudEvents: our messages are CloudEvents 1.0 in the eyes of the project's own SDK, extension names included, and what
// it reads is what we wrote.
func TestCloudEvents(t *testing.T) {
	t.Parallel()
	job := sample()
	outcome := schemas.Outcome{Job: job.ID, Tenant: job.Tenant, Model: job.Model, Status: schemas.Expired, Kind: schemas.KindExpired}
	for name, header := range map[string]map[string][]string{"job": job.Header(), "outcome": outcome.Header()} {
		e := asEvent(t, header)
		if err := e.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if e.ID() != string(job.ID) || e.Subject() != string(job.Model) || e.Source() != "/tenants/"+string(job.Tenant) {
			t.Errorf("%s: %s", name, e)
		}
		for key := range e.Extensions() {
			if len(header[schemas.HeaderPrefix+key]) != 1 {
				t.Errorf("%s: extension %s is not ours", name, key)
			}
		}
	}
	e := asEvent(t, job.Header())
	if !e.Time().Equal(job.Time) || e.Extensions()["cocoonclass"] != string(job.Class) {
		t.Errorf("%s", e)
	}
	// The same header set without one of the required attributes is no event for either.
	broken := job.Header()
	broken["ce-type"] = []string{""}
	if _, err := schemas.ParseAttributes(broken); err == nil {
		t.Error("an event without a type was read")
	}
	without := asEvent(t, broken)
	if without.Validate() == nil {
		t.Error("the SDK takes an event without a type")
	}
}
