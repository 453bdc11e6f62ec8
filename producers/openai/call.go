package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Paths of the endpoints that a job may call.
const (
	PathChat           = "/v1/chat/completions"
	PathCompletions    = "/v1/completions"
	PathEmbeddings     = "/v1/embeddings"
	PathResponses      = "/v1/responses"
	PathSpeech         = "/v1/audio/speech"
	PathTranscriptions = "/v1/audio/transcriptions"
)

// JSON is the content type of every body but an uploaded recording.
const JSON = "application/json"

// Limits of the fields that are read.
const (
	// MaxModelField bounds "model": a full model id is shorter.
	MaxModelField = 256
	// MaxTokensField bounds every count of tokens that a caller can ask for.
	MaxTokensField = 1 << 24
	// MaxChoices bounds "n".
	MaxChoices = 128
	// MaxGUID bounds "request_guid" in bytes.
	MaxGUID = 256
	// MaxTimeout bounds "timeout": no job lives longer.
	MaxTimeout = schemas.MaxLifetime
	// maxUnknown bounds how many unknown names are recorded.
	maxUnknown = 16
)

// Call is one request as far as a producer must understand it.
type Call struct {
	// URL is the endpoint's path and ContentType that of Body.
	URL, ContentType string
	// Body is what the engine gets: the caller's bytes less Cocoon's own fields.
	Body []byte
	// Model is the name the caller wrote.
	Model string
	// Stream says that the caller wants the answer as it grows, IncludeUsage that the stream is to end with its usage.
	Stream, IncludeUsage bool
	// Class is the class that service_tier asks for, empty when the caller leaves it open.
	Class schemas.Class
	// MaxTokens is the largest number of tokens in one choice of the answer, 0 when the caller sets none.
	MaxTokens int64
	// Choices is how many answers are asked for, at least 1.
	Choices int64
	// PromptBytes bounds the size of the prompt. No tokenizer makes more tokens than bytes.
	PromptBytes int64
	// BeyondText says that tokens do not follow from bytes: there are pictures, recordings or files, or state that lies
	// with the engine.
	BeyondText bool
	// Unknown lists fields that OpenAI's API does not have, at most 16. They are passed on: the engine may know them.
	Unknown []string

	// MaxMultiplier is the highest price multiplier that the caller accepts (max_coefficient: 1000 is 1×); 0 leaves it
	// to the class.
	MaxMultiplier schemas.BasisPoints
	// Timeout is how long the answer is worth something (timeout, in seconds); 0 leaves it to the client's default.
	Timeout time.Duration
	// Debug asks for the timings of all parts in the answer (enable_debug).
	Debug bool
	// GUID is a name of the caller's own for this request (request_guid).
	GUID string

	// object is a JSON body taken apart; nil when it was not kept.
	object Object
}

// Clone returns a call that shares no memory with the body it was read from.
func (c *Call) Clone() *Call {
	own := *c
	own.Body, own.object = bytes.Clone(c.Body), nil
	return &own
}

// Default sets a field of a JSON body that has none of that name.
func (c *Call) Default(name string, value []byte) error {
	if c.object == nil {
		var err error
		if c.object, err = ParseObject(c.Body); err != nil {
			return err
		}
	}
	if c.object.Get(name) != nil {
		return nil
	}
	c.object = c.object.With(name, value)
	c.Body = c.object.Append(make([]byte, 0, len(c.Body)+len(name)+len(value)+4))
	return nil
}

// extensions are the fields that Cocoon has and OpenAI has not. They end here.
var extensions = []string{"max_coefficient", "timeout", "enable_debug", "request_guid"}

// tiers maps OpenAI's service_tier to our classes; "" leaves it to the client.
var tiers = map[string]schemas.Class{
	"": "", "auto": "", "default": schemas.Standard, "standard": schemas.Standard,
	"priority": schemas.Priority, "flex": schemas.Batch, "batch": schemas.Batch,
}

// ParseCall reads a request. contentType may be empty for JSON. The error names the field at fault.
func ParseCall(url, contentType string, body []byte) (*Call, error) {
	c, err := newCall(url, body)
	if err != nil {
		return nil, err
	}
	media, params, err := mime.ParseMediaType(orJSON(contentType))
	if err != nil {
		return nil, schemas.FieldError("Content-Type", "is not a media type")
	}
	c.ContentType = orJSON(contentType)
	switch {
	case url == PathTranscriptions && media == "multipart/form-data":
		return c, c.readForm(body, params["boundary"])
	case media == JSON && url != PathTranscriptions:
		c.ContentType = JSON
		return c, c.readJSON(body)
	case url == PathTranscriptions:
		return nil, schemas.FieldError("Content-Type", "must be multipart/form-data")
	}
	return nil, schemas.FieldError("Content-Type", "must be application/json")
}

// orJSON is the content type of a body that has none.
func orJSON(contentType string) string {
	if contentType == "" {
		return JSON
	}
	return contentType
}

// ParseObjectCall is ParseCall for a JSON body that ParseObject or ParseFrame has taken apart already.
func ParseObjectCall(url string, body []byte, o Object) (*Call, error) {
	c, err := newCall(url, body)
	if err != nil {
		return nil, err
	}
	if url == PathTranscriptions {
		return nil, schemas.FieldError("Content-Type", "must be multipart/form-data")
	}
	c.ContentType = JSON
	return c, c.read(body, o)
}

// newCall begins with what holds for every body.
func newCall(url string, body []byte) (*Call, error) {
	if len(body) > schemas.MaxRequestBody {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Message: "the body is longer than 16 MiB"}
	}
	if _, ok := fields[url]; !ok {
		return nil, &schemas.Error{Kind: schemas.KindUnsupported, Field: "url", Message: "is not an endpoint that jobs can call"}
	}
	return &Call{URL: url, Choices: 1, PromptBytes: int64(len(body))}, nil
}

// readJSON reads a JSON body.
func (c *Call) readJSON(body []byte) error {
	o, err := ParseObject(body)
	if err != nil {
		return err
	}
	return c.read(body, o)
}

// read reads the fields of a JSON body.
func (c *Call) read(body []byte, o Object) error {
	if err := errors.Join(c.readModel(o), c.readLimits(o), c.readStream(o), c.readExtensions(o)); err != nil {
		return firstOf(err)
	}
	c.Unknown = unknown(c.URL, o)
	c.BeyondText = o.Get("previous_response_id") != nil || o.Get("conversation") != nil || hasMedia(body)
	c.Body, c.object = body, o
	if stripped := o.Without(extensions...); len(stripped) < len(o) {
		c.Body, c.object = stripped.Append(make([]byte, 0, len(body))), stripped
	}
	return nil
}

// mediaTypes are the types of message parts that are not text.
var mediaTypes = [][]byte{[]byte(`"image_url"`), []byte(`"input_image"`), []byte(`"input_audio"`), []byte(`"file"`), []byte(`"input_file"`)}

// hasMedia reports whether a message may have parts that are not text. Text that only looks so makes the worst case of a
// price a little worse.
func hasMedia(body []byte) bool {
	if !bytes.Contains(body, []byte(`"type"`)) {
		return false
	}
	for _, t := range mediaTypes {
		if bytes.Contains(body, t) {
			return true
		}
	}
	return false
}

// firstOf takes the first of joined errors: a caller mends one field at a time.
func firstOf(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()[0]
	}
	return err
}

// readModel reads which model is asked for, at what price class.
func (c *Call) readModel(o Object) (err error) {
	if c.Model, err = o.String("model"); err != nil {
		return err
	}
	if err := checkModel(c.Model); err != nil {
		return err
	}
	tier, err := o.String("service_tier")
	if err != nil {
		return err
	}
	class, known := tiers[tier]
	if !known {
		return schemas.FieldError("service_tier", "must be auto, default, standard, priority, flex or batch")
	}
	c.Class = class
	return nil
}

// checkModel refuses names that no model has, wildcards among them.
func checkModel(name string) error {
	if name == "" {
		return schemas.FieldError("model", "is required")
	}
	plain := len(name) <= MaxModelField
	for i := 0; plain && i < len(name); i++ {
		b := name[i]
		plain = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("._-/@:", b) >= 0
	}
	if !plain {
		return schemas.FieldError("model", "must be 1 to 256 characters of a-z A-Z 0-9 . _ - / @ :")
	}
	return nil
}

// readLimits reads how long the answer may get.
func (c *Call) readLimits(o Object) error {
	for _, name := range []string{"max_completion_tokens", "max_tokens", "max_output_tokens"} {
		n, present, err := o.Int(name, 1, MaxTokensField)
		if err != nil {
			return err
		}
		if present && c.MaxTokens == 0 {
			c.MaxTokens = n
		}
	}
	for _, name := range []string{"n", "best_of"} {
		n, present, err := o.Int(name, 1, MaxChoices)
		if err != nil {
			return err
		}
		if present {
			c.Choices = max(c.Choices, n)
		}
	}
	return nil
}

// readStream reads how the answer is to come.
func (c *Call) readStream(o Object) (err error) {
	if c.Stream, err = o.Bool("stream"); err != nil {
		return err
	}
	options, err := o.Object("stream_options")
	if err != nil {
		return err
	}
	if c.IncludeUsage, err = options.Bool("include_usage"); err != nil {
		return prefixed("stream_options", err)
	}
	return nil
}

// readExtensions reads Cocoon's own fields.
func (c *Call) readExtensions(o Object) error {
	const perThousand = int64(schemas.One) / 1000
	coefficient, _, err := o.Int("max_coefficient", 1, int64(schemas.MaxMultiplier)/perThousand)
	if err != nil {
		return err
	}
	c.MaxMultiplier = schemas.BasisPoints(coefficient * perThousand)
	if v := o.Get("timeout"); v != nil {
		var seconds float64
		if json.Unmarshal(v, &seconds) != nil || seconds <= 0 || seconds > MaxTimeout.Seconds() {
			return schemas.FieldError("timeout", "must be a number of seconds, above 0 and at most 172,800")
		}
		c.Timeout = time.Duration(seconds * float64(time.Second))
	}
	if c.Debug, err = o.Bool("enable_debug"); err != nil {
		return err
	}
	if c.GUID, err = o.String("request_guid"); err != nil {
		return err
	}
	if len(c.GUID) > MaxGUID {
		return schemas.FieldError("request_guid", "is longer than 256 bytes")
	}
	return nil
}

// readForm finds the model in an uploaded form. The form goes on unchanged.
func (c *Call) readForm(body []byte, boundary string) error {
	c.Body = body
	const maxParts = 64
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for range maxParts {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return checkModel(c.Model)
		}
		if err != nil {
			return schemas.FieldError("", "is not a multipart form")
		}
		if part.FormName() != "model" {
			continue
		}
		value, err := io.ReadAll(io.LimitReader(part, MaxModelField+1))
		if err != nil || c.Model != "" {
			return schemas.FieldError("model", "must be in the form once")
		}
		c.Model = string(value)
	}
	return schemas.FieldError("", "has more than 64 parts")
}

// prefixed puts a parent before the field of an error.
func prefixed(parent string, err error) error {
	var e *schemas.Error
	if !errors.As(err, &e) {
		return err
	}
	inner := *e
	inner.Field = strings.TrimSuffix(parent+"."+e.Field, ".")
	return &inner
}
