package schemas

import "strings"

// Limits of a request.
const (
	// MaxRequestBody bounds the body of a request in bytes.
	MaxRequestBody = 16 << 20
	// MaxURL bounds the path of a request.
	MaxURL = 256
	// MaxContentType bounds a content type.
	MaxContentType = 128
)

// Request is the secret part of a job: one call of an OpenAI endpoint, and where the answer goes. Callers fill the
// first group of fields; sealing fills the second.
type Request struct {
	_ struct{} `cbor:",toarray"`
	// Version is EnvelopeVersion; sealing sets it.
	Version uint8
	// Method is the HTTP method; empty means POST.
	Method string
	// URL is the endpoint's path, such as /v1/chat/completions.
	URL string
	// ContentType of Body; empty means application/json.
	ContentType string
	// Body is the request body, at most MaxRequestBody bytes.
	Body []byte
	// Stream asks for live chunks besides the result.
	Stream bool

	// ReplyKey is the public key that the result is sealed to, and ReplySecret a secret of this one job that is mixed
	// in, so that only who opened the job can have made the result. Sealing sets both.
	ReplyKey    []byte
	ReplySecret [32]byte
}

// walk visits the fields of a request.
func (r *Request) walk(f *form) {
	f.fields(8)
	unsigned(f, &r.Version)
	str(f, &r.Method)
	str(f, &r.URL)
	str(f, &r.ContentType)
	f.octets(&r.Body)
	f.flag(&r.Stream)
	f.octets(&r.ReplyKey)
	f.fixed(r.ReplySecret[:])
}

// Encode spells the request.
func (r *Request) Encode() []byte { return EncodeCBOR(r) }

// ParseRequest reads a request strictly.
func ParseRequest(b []byte) (*Request, error) {
	var r Request
	if err := DecodeCBOR(b, &r, MaxRequestBody+MaxURL+MaxContentType+2*PublicKeySize); err != nil {
		return nil, rename(err, "request")
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	return &r, nil
}

// Check refuses requests that no producer may seal.
func (r *Request) Check() error {
	switch {
	case r.Version != EnvelopeVersion:
		return &Error{Kind: KindUnsupported, Field: "request.version", Message: "is not 1"}
	case r.Method != "POST" && r.Method != "GET":
		return invalid("request.method", "must be POST or GET")
	case !strings.HasPrefix(r.URL, "/v1/") || len(r.URL) > MaxURL || strings.ContainsAny(r.URL, " \r\n?#"):
		return invalid("request.url", "must be a path that starts with /v1/")
	case r.ContentType == "" || len(r.ContentType) > MaxContentType || strings.ContainsAny(r.ContentType, "\r\n"):
		return invalid("request.content_type", "must have 1 to 128 bytes")
	case len(r.Body) > MaxRequestBody:
		return &Error{Kind: KindTooLarge, Field: "request.body", Message: "is longer than 16 MiB"}
	case len(r.ReplyKey) != PublicKeySize:
		return invalid("request.reply_key", "must be 1,216 bytes")
	}
	return nil
}
