package schemas

import "time"

// Limits of a result.
const (
	// MaxResultBody bounds the body of a result in bytes.
	MaxResultBody = 16 << 20
	// MaxMessage bounds the message of a failed result.
	MaxMessage = 2 << 10
	// MaxSealedResult bounds an encoded sealed result.
	MaxSealedResult = 20 << 20
)

// Result is the secret part of an outcome: what the engine answered, or why it could not.
type Result struct {
	_ struct{} `cbor:",toarray"`
	// Version is EnvelopeVersion; sealing sets it.
	Version uint8
	// Status is the HTTP status of the engine's answer, 0 when there was none.
	Status int
	// ContentType of Body, empty when there is none.
	ContentType string
	// Body is the whole response body as a call without streaming would have given it.
	Body []byte
	// FinishReason of the first choice: stop, length, tool_calls, content_filter; empty where the endpoint has none.
	FinishReason string
	// Usage is what the receipt charges for.
	Usage Usage
	// Charge is what the worker computed the job to cost from the catalogue and multiplier of its grant; zero on failure.
	// It informs the caller: settlement prices the receipt itself.
	Charge Charge
	// Kind, Field and Message say why there is no answer; KindUnknown and empty on success.
	Kind    Kind
	Field   string
	Message string
	// Queue, FirstToken and Total are the engine's times in milliseconds.
	Queue      uint32
	FirstToken uint32
	Total      uint32
	// Fingerprint names engine, version, weights and instruction set.
	Fingerprint string
}

// Failure is the result of a job that could not be answered.
func Failure(err error) Result {
	r := Result{Version: EnvelopeVersion, Kind: KindOf(err), Message: err.Error()}
	if e, ok := err.(*Error); ok {
		r.Field, r.Message = e.Field, e.Message
	}
	if r.Kind == KindUnknown {
		r.Kind = KindInternal
	}
	r.Message = r.Message[:min(len(r.Message), MaxMessage)]
	return r
}

// Err is the failure of a failed result, nil otherwise.
func (r *Result) Err() error {
	if r.Kind == KindUnknown {
		return nil
	}
	return &Error{Kind: r.Kind, Field: r.Field, Message: r.Message}
}

// Milliseconds is how durations are spelled in a Result; more than 49 days are clipped.
func Milliseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 0), 1<<32-1))
}

// Encode spells the result.
func (r *Result) Encode() []byte { return EncodeCBOR(r) }

// ParseResult reads a result strictly.
func ParseResult(b []byte) (*Result, error) {
	var r Result
	if err := DecodeCBOR(b, &r, MaxSealedResult); err != nil {
		return nil, rename(err, "result")
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	return &r, nil
}

// Check refuses results that no worker may seal.
func (r *Result) Check() error {
	switch {
	case r.Version != EnvelopeVersion:
		return &Error{Kind: KindUnsupported, Field: "result.version", Message: "is not 1"}
	case r.Status < 0 || r.Status > 999:
		return invalid("result.status", "must be an HTTP status or 0")
	case r.Status == 0 && r.Kind == KindUnknown:
		return invalid("result.kind", "must say why there is no answer")
	case len(r.Body) > MaxResultBody:
		return &Error{Kind: KindTooLarge, Field: "result.body", Message: "is longer than 16 MiB"}
	case len(r.Message) > MaxMessage || len(r.Field) > MaxURL || len(r.ContentType) > MaxContentType ||
		len(r.FinishReason) > MaxToken || len(r.Fingerprint) > MaxURL:
		return &Error{Kind: KindTooLarge, Field: "result", Message: "has a text that is too long"}
	}
	return nil
}

// SealedResult is a result as it travels in the body of an outcome message. See spec/result.md.
type SealedResult struct {
	_ struct{} `cbor:",toarray"`
	// Version is EnvelopeVersion.
	Version uint8
	// Attempt is the attempt of the grant under which the job ran.
	Attempt uint32
	// Enc is an encapsulation to the tenant's reply key; up to MaxPerEncapsulation results share it.
	Enc []byte
	// Index is the result's number under Enc.
	Index uint32
	// Payload is the padded result in frames.
	Payload []byte
}

// walk visits the fields of a sealed result.
func (r *SealedResult) walk(f *form) {
	f.fields(5)
	unsigned(f, &r.Version)
	unsigned(f, &r.Attempt)
	f.octets(&r.Enc)
	unsigned(f, &r.Index)
	f.octets(&r.Payload)
}

// Encode spells the sealed result.
func (r *SealedResult) Encode() []byte { return EncodeCBOR(r) }

// ParseSealedResult reads a sealed result strictly.
func ParseSealedResult(b []byte) (*SealedResult, error) {
	var r SealedResult
	if err := DecodeCBOR(b, &r, MaxSealedResult); err != nil {
		return nil, rename(err, "result")
	}
	switch {
	case r.Version != EnvelopeVersion:
		return nil, &Error{Kind: KindUnsupported, Field: "result.version", Message: "is not 1"}
	case r.Attempt < 1 || r.Attempt > MaxAttempts:
		return nil, invalid("result.attempt", "must lie between 1 and 10")
	case len(r.Enc) != EncSize:
		return nil, invalid("result.enc", "must be 1,120 bytes")
	case r.Index >= MaxPerEncapsulation:
		return nil, invalid("result.index", "must be below 1,000")
	}
	return &r, checkPayload("result.payload", r.Payload)
}
