package schemas

import (
	"strconv"
	"strings"
)

// Status says how a job ended.
type Status string

// The statuses. Only Succeeded can carry a receipt; the others cost nothing.
const (
	// Succeeded: the engine answered, with any HTTP status of its own; the body is the sealed result.
	Succeeded Status = "succeeded"
	// Failed: no answer could be made; the kind says why.
	Failed Status = "failed"
	// Expired: the deadline passed first.
	Expired Status = "expired"
	// Cancelled: the tenant asked for it first. If tokens had been produced a receipt charges for exactly these.
	Cancelled Status = "cancelled"
)

// Headers of an outcome message beside its ce-* attributes.
const (
	// HeaderReceipt holds the worker's receipt as a compact JWS.
	HeaderReceipt = "cocoon-receipt"
	// HeaderGrant holds the broker's grant as a compact JWS.
	HeaderGrant = "cocoon-grant"
)

// Limits of an outcome.
const (
	// MaxSignedHeader bounds a receipt or grant header in bytes.
	MaxSignedHeader = 8 << 10
	// MaxInlineBody is the largest body carried in a message; a larger one lies in the object store.
	MaxInlineBody = 512 << 10
)

// Outcome is the one final message of a job: what happened, the sealed result and what was signed about it. It is
// published with compare-and-set, so the first outcome of a job is the only one.
type Outcome struct {
	// Job, Tenant and Model name what this is the outcome of (ce-id, ce-source, ce-subject).
	Job    JobID
	Tenant TenantID
	Model  ModelID
	// Status says how it ended (ce-cocoonstatus).
	Status Status
	// Kind classifies a Status other than Succeeded (ce-cocoonkind); KindUnknown otherwise.
	Kind Kind
	// Grant and Receipt are compact JWS, empty when the job was never granted or nothing is owed.
	Grant   string
	Receipt string
	// Body is the sealed result, empty when nothing was produced.
	Body []byte
}

const (
	attrStatus = "cocoonstatus"
	attrKind   = "cocoonkind"
)

// outcomeAttributes lists the ce- attributes of an outcome.
var outcomeAttributes = [...]string{
	attrSpecVersion, attrID, attrSource, attrType, attrSubject, attrContent, attrStatus, attrKind,
}

// Header spells everything but the body as message headers.
func (o *Outcome) Header() map[string][]string {
	h := attributeHeader(outcomeAttributes[:], []string{ // in their order
		SpecVersion, string(o.Job), sourcePrefix + string(o.Tenant), TypeOutcome, string(o.Model), ContentResult, string(o.Status), strconv.Itoa(int(o.Kind)),
	})
	if o.Grant != "" {
		h[HeaderGrant] = []string{o.Grant}
	}
	if o.Receipt != "" {
		h[HeaderReceipt] = []string{o.Receipt}
	}
	return h
}

// ParseOutcome reads an outcome message. A headers-only copy parses too: its body is empty.
func ParseOutcome(header map[string][]string, body []byte) (Outcome, error) {
	var v [len(outcomeAttributes)]string
	if err := attributeValues(header, outcomeAttributes[:], v[:]); err != nil {
		return Outcome{}, err
	}
	version, id, source, typ, subject, content, status, number := v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
	if err := fixedAttributes(version, typ, content, TypeOutcome, ContentResult); err != nil {
		return Outcome{}, err
	}
	o := Outcome{Model: ModelID(subject), Status: Status(status), Body: body}
	var err error
	if o.Job, err = ParseJobID(id); err != nil {
		return Outcome{}, rename(err, "ce-id")
	}
	tenant, ok := strings.CutPrefix(source, sourcePrefix)
	if !ok {
		return Outcome{}, invalid("ce-source", "must be /tenants/<tenant>")
	}
	if o.Tenant, err = ParseTenantID(tenant); err != nil {
		return Outcome{}, rename(err, "ce-source")
	}
	if _, err = ParseModelID(subject); err != nil {
		return Outcome{}, rename(err, "ce-subject")
	}
	kind, err := strconv.ParseUint(number, 10, 16)
	if err != nil || strconv.FormatUint(kind, 10) != number {
		return Outcome{}, invalid("ce-cocoonkind", "must be the number of an error kind")
	}
	o.Kind = Kind(kind)
	if o.Grant, err = signedHeader(header, HeaderGrant); err != nil {
		return Outcome{}, err
	}
	if o.Receipt, err = signedHeader(header, HeaderReceipt); err != nil {
		return Outcome{}, err
	}
	return o, o.Check()
}

// Check refuses combinations that no worker may send.
func (o *Outcome) Check() error {
	switch o.Status {
	case Succeeded:
		if o.Kind != KindUnknown {
			return invalid("ce-cocoonkind", "must be 0 on a succeeded job")
		}
		if o.Receipt == "" || o.Grant == "" {
			return invalid(HeaderReceipt, "a succeeded job needs a receipt and a grant")
		}
	case Failed, Expired:
		if o.Kind == KindUnknown {
			return invalid("ce-cocoonkind", "must say why the job did not succeed")
		}
		if o.Receipt != "" {
			return invalid(HeaderReceipt, "a job that failed or expired owes nothing")
		}
	case Cancelled:
		if o.Kind != KindCancelled {
			return invalid("ce-cocoonkind", "must be 5 on a cancelled job")
		}
	default:
		return invalid("ce-cocoonstatus", "must be succeeded, failed, expired or cancelled")
	}
	if o.Receipt != "" && o.Grant == "" {
		return invalid(HeaderGrant, "a receipt needs its grant")
	}
	return nil
}

// signedHeader reads an optional JWS header.
func signedHeader(header map[string][]string, name string) (string, error) {
	values := header[name]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", invalid(name, "must have one value")
	case len(values[0]) > MaxSignedHeader:
		return "", &Error{Kind: KindTooLarge, Field: name, Message: "is longer than 8 KiB"}
	}
	return values[0], nil
}
