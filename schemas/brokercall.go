package schemas

import (
	"strconv"
	"time"
)

// Limits of calls to the broker.
const (
	// MaxGrantBatch bounds the jobs of one grant call, MaxRenewBatch those of one renew call.
	MaxGrantBatch = 64
	MaxRenewBatch = 256
	// MaxCall bounds any call and MaxReply any reply in bytes: sixty-four jobs with an encapsulation each fit, and so
	// does the evidence of a machine with sixteen GPUs.
	MaxCall  = 768 << 10
	MaxReply = 512 << 10
	// MaxChallenge and MaxTicket bound what the broker alone makes and reads.
	MaxChallenge = 64
	MaxTicket    = 64 << 10
)

// ChallengeRequest asks the broker for something unpredictable to bind evidence to.
type ChallengeRequest struct {
	_ struct{} `cbor:",toarray"`
	// Version is EnvelopeVersion, as in all calls.
	Version uint8
}

// ChallengeReply carries a token that any broker of the group recognises for a short time; see ChallengeNonce.
type ChallengeReply struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Token   []byte
}

// ChallengeNonce is the nonce of evidence that answers a challenge.
func ChallengeNonce(token []byte) [32]byte { return HashFields("cocoon/nonce/v1", token) }

// SessionRequest shows evidence and asks for a session.
type SessionRequest struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	// Token is the challenge that Evidence answers.
	Token []byte
	// Nonce makes the broker's signed reply fresh.
	Nonce [32]byte
	// Ask is the lowest price multiplier the worker serves at; 0 leaves it to the classes.
	Ask BasisPoints
	// Evidence is the worker's evidence in its wire form.
	Evidence []byte
}

// SessionReply is a session: a secret that only the attested process can read and a ticket that any broker can.
type SessionReply struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	// Enc encapsulates the session secret to the HPKE key in the evidence.
	Enc []byte
	// Ticket goes with every call of the session.
	Ticket []byte
	// Expires is when the worker must have shown fresh evidence, in Unix seconds.
	Expires int64
	// Policy is the version of the policy under which it was admitted.
	Policy uint64
	// Broker is the broker's signing key, Evidence attests it (claims with a zero nonce) and Signature, by it, covers
	// request and reply; see SessionSigned.
	Broker    [32]byte
	Evidence  []byte
	Signature [64]byte
}

// SessionSigned is what the broker signs in a SessionReply to a request.
func SessionSigned(request Hash, r *SessionReply) []byte {
	return AppendFields(nil, "cocoon/session-signed/v1", request[:], r.Enc, r.Ticket, be64(uint64(r.Expires)), be64(r.Policy), r.Broker[:])
}

// SealedCall is a call inside a session: Sealed opens under the session's secret.
type SealedCall struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Ticket  []byte
	Sealed  []byte
}

// SealedReply answers a SealedCall; it opens only as the answer to that very call.
type SealedReply struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Sealed  []byte
}

// GrantCall asks for grants of 1 to MaxGrantBatch jobs.
type GrantCall struct {
	_ struct{} `cbor:",toarray"`
	// Sent is the worker's clock in Unix seconds; a call that is minutes old is refused.
	Sent int64
	// Encs are the distinct encapsulations of Jobs: jobs of one submission share one.
	Encs [][]byte
	Jobs []GrantJob
}

// GrantJob is what the broker must know of a job to decide about it; never its payload.
type GrantJob struct {
	_          struct{} `cbor:",toarray"`
	Attributes AttributeFields
	Mode       Mode
	// Enc is the position of the recipient's encapsulation in GrantCall.Encs; Key, Index, Wrapped, Commit are copied
	// from the envelope.
	Enc     uint32
	Index   uint32
	Wrapped []byte
	Commit  [32]byte
	// Payload is the hash of the sealed payload, Recipients that of the recipient list.
	Payload    Hash
	Recipients Hash
	// Spend is the authorisation that a pinned worker took from the wrap, empty in broker mode.
	Spend []byte
}

// AttributeFields are Attributes as a CBOR form.
type AttributeFields struct {
	_        struct{} `cbor:",toarray"`
	ID       JobID
	Tenant   TenantID
	Time     int64
	Model    ModelID
	Class    Class
	Key      KeyID
	Expiry   int64
	Policy   Hash
	Budget   NanoTON
	Attempts int
}

// Fields is the CBOR form of the attributes.
func (a *Attributes) Fields() AttributeFields {
	return AttributeFields{
		ID: a.ID, Tenant: a.Tenant, Time: a.Time.Unix(), Model: a.Model, Class: a.Class, Key: a.Key,
		Expiry: a.Expiry.Unix(), Policy: a.Policy, Budget: a.Budget, Attempts: a.Attempts,
	}
}

// Attributes is the inverse of Fields; it checks.
func (f *AttributeFields) Attributes() (Attributes, error) {
	a := Attributes{
		ID: f.ID, Tenant: f.Tenant, Time: time.Unix(f.Time, 0).UTC(), Model: f.Model, Class: f.Class, Key: f.Key,
		Expiry: time.Unix(f.Expiry, 0).UTC(), Policy: f.Policy, Budget: f.Budget, Attempts: f.Attempts,
	}
	return a, a.Check()
}

// GrantReply answers a GrantCall, job by job, in order.
type GrantReply struct {
	_    struct{} `cbor:",toarray"`
	Jobs []GrantAnswer
}

// GrantAnswer is a grant or a refusal.
type GrantAnswer struct {
	_       struct{} `cbor:",toarray"`
	Refusal Refusal
	// Grant is the compact JWS of a Grant.
	Grant string
	// Content is the content key, 32 bytes; empty in pin mode and in a renewal.
	Content []byte
}

// Refusal is an Error as a CBOR form; Kind 0 means that nothing was refused.
type Refusal struct {
	_       struct{} `cbor:",toarray"`
	Kind    Kind
	Field   string
	Message string
	// RetryAfter is in milliseconds.
	RetryAfter uint32
}

// NewRefusal is the CBOR form of an error.
func NewRefusal(err *Error) Refusal {
	kind := err.Kind
	if kind == KindUnknown {
		kind = KindInternal
	}
	return Refusal{Kind: kind, Field: err.Field, Message: err.Message, RetryAfter: Milliseconds(err.RetryAfter)}
}

// Err is the refusal as an error, nil when nothing was refused.
func (r *Refusal) Err() error {
	if r.Kind == KindUnknown {
		return nil
	}
	return &Error{Kind: r.Kind, Field: r.Field, Message: r.Message, RetryAfter: time.Duration(r.RetryAfter) * time.Millisecond}
}

// RenewCall keeps or gives back the leases of 1 to MaxRenewBatch running jobs.
type RenewCall struct {
	_    struct{} `cbor:",toarray"`
	Sent int64
	Jobs []RenewJob
}

// RenewJob names a lease by the grant that gave it.
type RenewJob struct {
	_     struct{} `cbor:",toarray"`
	Grant string
	End   LeaseEnd
}

// LeaseEnd says what becomes of a lease.
type LeaseEnd uint8

// The ends.
const (
	// LeaseKept: the job still runs; the lease is prolonged.
	LeaseKept LeaseEnd = 0
	// LeaseReturned: the worker will not finish the job and nothing is owed; another worker may have it at once.
	LeaseReturned LeaseEnd = 1
	// LeaseDone: the outcome is published.
	LeaseDone LeaseEnd = 2
)

// ReleaseCall asks for the key of a model's sealed weights. Enc and Wrapped come from the sealed package.
type ReleaseCall struct {
	_       struct{} `cbor:",toarray"`
	Sent    int64
	Model   ModelID
	Enc     []byte
	Wrapped []byte
}

// ReleaseReply carries the key of a model's sealed weights.
type ReleaseReply struct {
	_   struct{} `cbor:",toarray"`
	Key [32]byte
}

// AttestRequest asks the broker for evidence that answers the caller's own nonce.
type AttestRequest struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Nonce   [32]byte
}

// AttestReply is the broker's evidence in its wire form.
type AttestReply struct {
	_        struct{} `cbor:",toarray"`
	Version  uint8
	Evidence []byte
}

// JoinRequest is a new broker's request for the secrets of its group.
type JoinRequest struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	// Token is the challenge that Evidence answers.
	Token []byte
	// Nonce is what the giver's evidence must answer, together with request and reply; see JoinNonce.
	Nonce [32]byte
	// Evidence is the asker's evidence in its wire form.
	Evidence []byte
}

// JoinReply is the sealed state of the group and the giver's own evidence.
type JoinReply struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	// Enc and Sealed open with the HPKE key in the asker's evidence.
	Enc    []byte
	Sealed []byte
	// Evidence answers JoinNonce: the quote is the signature over the reply.
	Evidence []byte
}

// JoinNonce is the nonce of the evidence in a JoinReply.
func JoinNonce(request Hash, nonce [32]byte, enc, sealed []byte) [32]byte {
	return HashFields("cocoon/join-nonce/v1", request[:], nonce[:], enc, sealed)
}

// EncodeCall spells any of the calls and replies of this file.
func EncodeCall(v any) []byte { return EncodeCBOR(v) }

// ParseCall reads any of the calls and replies of this file strictly. v points to it.
func ParseCall(b []byte, v any) error {
	if err := DecodeCBOR(b, v, MaxCall); err != nil {
		return err
	}
	var version uint8
	switch c := v.(type) {
	case *ChallengeRequest:
		version = c.Version
	case *ChallengeReply:
		version = c.Version
		if len(c.Token) == 0 || len(c.Token) > MaxChallenge {
			return invalid("token", "must have 1 to 64 bytes")
		}
	case *SessionRequest:
		version = c.Version
		if c.Ask > MaxMultiplier {
			return invalid("ask", "is above 100x")
		}
	case *SessionReply:
		version = c.Version
		if len(c.Enc) != EncSize {
			return invalid("enc", "must be 1,120 bytes")
		}
	case *SealedCall:
		version = c.Version
		if len(c.Ticket) == 0 || len(c.Ticket) > MaxTicket {
			return invalid("ticket", "must have 1 to 65,536 bytes")
		}
	case *SealedReply:
		version = c.Version
	case *AttestRequest:
		version = c.Version
	case *AttestReply:
		version = c.Version
	case *JoinRequest:
		version = c.Version
	case *JoinReply:
		version = c.Version
		if len(c.Enc) != EncSize {
			return invalid("enc", "must be 1,120 bytes")
		}
	case *GrantCall:
		return c.check()
	case *ReleaseCall:
		if len(c.Enc) != EncSize || len(c.Wrapped) > MaxWrapped {
			return invalid("enc", "must be 1,120 bytes and wrapped at most 512")
		}
		return nil
	case *ReleaseReply, *GrantReply:
		return nil
	case *RenewCall:
		for i := range c.Jobs {
			if c.Jobs[i].End > LeaseDone {
				return invalid("jobs["+strconv.Itoa(i)+"].end", "must be 0, 1 or 2")
			}
		}
		if len(c.Jobs) < 1 || len(c.Jobs) > MaxRenewBatch {
			return invalid("jobs", "must be 1 to 256")
		}
		return nil
	}
	if version != EnvelopeVersion {
		return &Error{Kind: KindUnsupported, Field: "version", Message: "is not 1"}
	}
	return nil
}

// check refuses calls of wrong shape; each job is judged on its own later.
func (c *GrantCall) check() error {
	if len(c.Jobs) < 1 || len(c.Jobs) > MaxGrantBatch {
		return invalid("jobs", "must be 1 to 64")
	}
	if len(c.Encs) > len(c.Jobs) {
		return invalid("encs", "has more entries than there are jobs")
	}
	for i, enc := range c.Encs {
		if len(enc) != EncSize {
			return invalid("encs["+strconv.Itoa(i)+"]", "must be 1,120 bytes")
		}
	}
	for i := range c.Jobs {
		if c.Jobs[i].Mode == ModeBroker && int(c.Jobs[i].Enc) >= len(c.Encs) {
			return invalid("jobs["+strconv.Itoa(i)+"].enc", "names no entry of encs")
		}
	}
	return nil
}
