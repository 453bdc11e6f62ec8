package schemas

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CloudEvents 1.0 values of a job message. Attributes travel in binary content mode as headers "ce-" + name, lower
// case, values percent-encoded as the NATS protocol binding of CloudEvents demands.
const (
	SpecVersion     = "1.0"
	TypeJob         = "network.cocoon.job.v1"
	TypeOutcome     = "network.cocoon.outcome.v1"
	ContentEnvelope = "application/vnd.cocoon.envelope+cbor"
	ContentResult   = "application/vnd.cocoon.result+cbor"
	// HeaderPrefix stands before every attribute name in a message header.
	HeaderPrefix = "ce-"
)

// Limits of a job's attributes.
const (
	// MaxAttributeValue bounds the encoded value of one attribute header in bytes.
	MaxAttributeValue = 512
	// MaxAttempts bounds how often a job may be run.
	MaxAttempts = 10
	// MaxLifetime bounds the time from a job's creation to its expiry.
	MaxLifetime = 48 * time.Hour
)

// Attributes are the public face of a job: everything the operator can read. All of them are bound into the seal, so
// changing one makes the job unopenable. They never hold the prompt, parameters, exact sizes, the reply key or a name.
type Attributes struct {
	// ID is the job id (ce-id).
	ID JobID
	// Tenant is the account that pays (the last element of ce-source, "/tenants/<id>").
	Tenant TenantID
	// Time is when the job was sealed (ce-time), UTC, whole seconds.
	Time time.Time
	// Model is the full model id (ce-subject).
	Model ModelID
	// Class is the queue and price class (ce-cocoonclass).
	Class Class
	// Key names the key the job is sealed to: an epoch key in broker mode, the pool's key set in pin mode (ce-cocoonkid).
	Key KeyID
	// Expiry is when the job is worth nothing any more (ce-cocoonexpiry), UTC, whole seconds, at most MaxLifetime
	// after Time.
	Expiry time.Time
	// Policy is the hash of the policy that the producer verified against (ce-cocoonpolicy); the broker refuses
	// workers that this policy, or a later version under the same root keys, does not admit.
	Policy Hash
	// Budget is the ceiling in nanoTON that the broker reserves and the job can never cost more than (ce-cocoonbudget).
	// It must equal the ceiling in the sealed spend authorisation.
	Budget NanoTON
	// Attempts is how often the job may be run at most, 1 to MaxAttempts (ce-cocoonattempts).
	Attempts int
}

// Attribute names, lower case, without the header prefix.
const (
	attrSpecVersion = "specversion"
	attrID          = "id"
	attrSource      = "source"
	attrType        = "type"
	attrTime        = "time"
	attrSubject     = "subject"
	attrContent     = "datacontenttype"
	attrClass       = "cocoonclass"
	attrKey         = "cocoonkid"
	attrExpiry      = "cocoonexpiry"
	attrPolicy      = "cocoonpolicy"
	attrBudget      = "cocoonbudget"
	attrAttempts    = "cocoonattempts"
)

// sourcePrefix stands before the tenant in ce-source.
const sourcePrefix = "/tenants/"

// jobAttributes is the fixed order in which attributes are hashed.
var jobAttributes = [...]string{
	attrSpecVersion, attrID, attrSource, attrType, attrTime, attrSubject, attrContent,
	attrClass, attrKey, attrExpiry, attrPolicy, attrBudget, attrAttempts,
}

// wireTime shows RFC 3339 in UTC with whole seconds: one spelling for one instant.
const wireTime = "2006-01-02T15:04:05Z"

// values spells every attribute of a job, in the order of jobAttributes.
func (a *Attributes) values() [len(jobAttributes)]string {
	return [len(jobAttributes)]string{
		SpecVersion, string(a.ID), sourcePrefix + string(a.Tenant), TypeJob, a.Time.UTC().Format(time.RFC3339), string(a.Model), ContentEnvelope,
		string(a.Class), string(a.Key), a.Expiry.UTC().Format(time.RFC3339), a.Policy.String(), strconv.FormatInt(int64(a.Budget), 10), strconv.Itoa(a.Attempts),
	}
}

// Header spells the attributes as message headers. Every header has exactly one value.
func (a *Attributes) Header() map[string][]string {
	values := a.values()
	return attributeHeader(jobAttributes[:], values[:])
}

// roomForHeaders is what a message has beside its attributes at most: message id, time to live, statements, body, trace.
const roomForHeaders = 6

// attributeHeader spells attributes as headers; all values lie in one piece of memory.
func attributeHeader(names, values []string) map[string][]string {
	h := make(map[string][]string, len(names)+roomForHeaders)
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = percentEncode(values[i])
		h[HeaderPrefix+name] = all[i : i+1 : i+1]
	}
	return h
}

// Digest is the hash that seals, grants and receipts bind: SHA-256 over the label "cocoon/attributes/v1" and, in fixed
// order, name and value of each attribute, every string preceded by its length as a 32-bit big-endian number.
func (a *Attributes) Digest() Hash {
	const room = 1 << 10 // enough for nearly all
	b := make([]byte, 0, room)
	write := func(s string) {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	write("cocoon/attributes/v1")
	values := a.values()
	for i, name := range jobAttributes {
		write(name)
		write(values[i])
	}
	return sha256.Sum256(b)
}

// Check refuses attributes that no producer may send. It does not look at the clock: see Expired.
func (a *Attributes) Check() error {
	if _, err := ParseJobID(string(a.ID)); err != nil {
		return rename(err, "ce-id")
	}
	if _, err := ParseTenantID(string(a.Tenant)); err != nil {
		return rename(err, "ce-source")
	}
	if _, err := ParseModelID(string(a.Model)); err != nil {
		return rename(err, "ce-subject")
	}
	if _, err := ParseClass(string(a.Class)); err != nil {
		return rename(err, "ce-cocoonclass")
	}
	if _, err := ParseKeyID(string(a.Key)); err != nil {
		return rename(err, "ce-cocoonkid")
	}
	if !wholeSecond(a.Time) {
		return invalid("ce-time", "must be UTC with whole seconds")
	}
	if !wholeSecond(a.Expiry) || !a.Expiry.After(a.Time) || a.Expiry.Sub(a.Time) > MaxLifetime {
		return invalid("ce-cocoonexpiry", "must lie after ce-time, by at most 48 hours")
	}
	if a.Budget <= 0 {
		return invalid("ce-cocoonbudget", "must be a positive number of nanoTON")
	}
	if a.Attempts < 1 || a.Attempts > MaxAttempts {
		return invalid("ce-cocoonattempts", "must lie between 1 and 10")
	}
	return nil
}

// Expired reports whether the job is worth nothing any more.
func (a *Attributes) Expired(now time.Time) bool { return !now.Before(a.Expiry) }

// ParseAttributes reads the ce-* headers of a job message. Headers outside the ce- prefix are ignored; an unknown,
// repeated, missing or second-spelled ce- header is refused.
func ParseAttributes(header map[string][]string) (Attributes, error) {
	var v [len(jobAttributes)]string
	if err := attributeValues(header, jobAttributes[:], v[:]); err != nil {
		return Attributes{}, err
	}
	// In the order of jobAttributes.
	version, id, source, kind, created, subject, content := v[0], v[1], v[2], v[3], v[4], v[5], v[6]
	class, key, expiry, policy, budget, attempts := v[7], v[8], v[9], v[10], v[11], v[12]
	if err := fixedAttributes(version, kind, content, TypeJob, ContentEnvelope); err != nil {
		return Attributes{}, err
	}
	tenant, ok := strings.CutPrefix(source, sourcePrefix)
	if !ok {
		return Attributes{}, invalid("ce-source", "must be /tenants/<tenant>")
	}
	a := Attributes{ID: JobID(id), Tenant: TenantID(tenant), Model: ModelID(subject), Class: Class(class), Key: KeyID(key)}
	var err error
	if a.Time, err = parseTime(created); err != nil {
		return Attributes{}, rename(err, "ce-time")
	}
	if a.Expiry, err = parseTime(expiry); err != nil {
		return Attributes{}, rename(err, "ce-cocoonexpiry")
	}
	if a.Policy, err = ParseHash(policy); err != nil {
		return Attributes{}, rename(err, "ce-cocoonpolicy")
	}
	if err = a.Budget.UnmarshalText([]byte(budget)); err != nil {
		return Attributes{}, rename(err, "ce-cocoonbudget")
	}
	a.Attempts, err = strconv.Atoi(attempts)
	if err != nil || strconv.Itoa(a.Attempts) != attempts {
		return Attributes{}, invalid("ce-cocoonattempts", "must be a whole number")
	}
	if err := a.Check(); err != nil {
		return Attributes{}, err
	}
	return a, nil
}

// fixedAttributes refuses other versions, types and contents than a message's own.
func fixedAttributes(version, kind, content, wantKind, wantContent string) error {
	switch {
	case version != SpecVersion:
		return invalid(HeaderPrefix+attrSpecVersion, "must be "+SpecVersion)
	case kind != wantKind:
		return invalid(HeaderPrefix+attrType, "must be "+wantKind)
	case content != wantContent:
		return invalid(HeaderPrefix+attrContent, "must be "+wantContent)
	}
	return nil
}

// attributeValues decodes the ce- headers into values, in the order of names, and demands exactly these names.
func attributeValues(header map[string][]string, names, values []string) error {
	known := 0
	for key := range header {
		if hasFoldedPrefix(key) {
			known++
		}
	}
	for i, name := range names {
		given := header[HeaderPrefix+name]
		if len(given) != 1 {
			return strangeAttributes(header, names)
		}
		var err error
		if values[i], err = percentDecode(given[0]); err != nil {
			return rename(err, HeaderPrefix+name)
		}
	}
	if known != len(names) {
		return strangeAttributes(header, names)
	}
	return nil
}

// hasFoldedPrefix reports whether a header is an attribute in whatever case.
func hasFoldedPrefix(key string) bool {
	return len(key) >= len(HeaderPrefix) && strings.EqualFold(key[:len(HeaderPrefix)], HeaderPrefix)
}

// strangeAttributes names what is wrong with the set of ce- headers; the one named first must not depend on the order of
// a map.
func strangeAttributes(header map[string][]string, names []string) error {
	for _, key := range slices.Sorted(maps.Keys(header)) {
		if !hasFoldedPrefix(key) {
			continue
		}
		if key[:len(HeaderPrefix)] != HeaderPrefix || !slices.Contains(names, key[len(HeaderPrefix):]) {
			return invalid(clip(key), "is not an attribute of this message")
		}
		if len(header[key]) != 1 {
			return invalid(key, "must have exactly one value")
		}
	}
	for _, name := range names {
		if _, ok := header[HeaderPrefix+name]; !ok {
			return invalid(HeaderPrefix+name, "is missing")
		}
	}
	return invalid("ce-", "are not the attributes of this message")
}

// clip keeps hostile header names out of logs.
func clip(s string) string {
	const limit = 64
	if len(s) > limit {
		s = s[:limit]
	}
	return strconv.QuoteToASCII(s)
}

// rename puts the name the sender knows on a field error.
func rename(err error, field string) error {
	if e, ok := err.(*Error); ok {
		renamed := *e
		renamed.Field = field
		return &renamed
	}
	return err
}

// parseTime reads the one spelling of an instant.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	var again [len(wireTime) + len("+00:00")]byte
	if err != nil || string(t.AppendFormat(again[:0], time.RFC3339)) != s || len(s) != len(wireTime) || t.Year() < 2000 {
		return time.Time{}, invalid("time", "must look like 2006-01-02T15:04:05Z")
	}
	return t.UTC(), nil
}

// wholeSecond reports whether t has the precision of the wire.
func wholeSecond(t time.Time) bool { return !t.IsZero() && t.Nanosecond() == 0 }

// percentEncode spells a value as the CloudEvents NATS binding demands: space, double quote, percent and everything
// outside U+0021 to U+007E become %XX of their UTF-8 bytes.
func percentEncode(s string) string {
	const hexDigits = "0123456789ABCDEF"
	if unescaped(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; mustEscape(c) {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// mustEscape reports whether a byte cannot stand for itself in a header.
func mustEscape(c byte) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '%' }

// unescaped reports whether a value is spelled as it is.
func unescaped(s string) bool {
	for i := range len(s) {
		if mustEscape(s[i]) {
			return false
		}
	}
	return true
}

// percentDecode is the exact inverse: a second spelling of the same value is refused.
func percentDecode(s string) (string, error) {
	if len(s) > MaxAttributeValue {
		return "", &Error{Kind: KindTooLarge, Message: "is longer than 512 bytes"}
	}
	if unescaped(s) {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", invalid("", "has a broken percent escape")
		}
		v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", invalid("", "has a broken percent escape")
		}
		b = append(b, byte(v))
		i += 2
	}
	if percentEncode(string(b)) != s {
		return "", invalid("", "is not canonically percent-encoded")
	}
	return string(b), nil
}
