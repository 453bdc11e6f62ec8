package openai

import (
	"bytes"
	"errors"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cocoon-network/cocoon/schemas"
)

const hello = `"messages":[{"role":"user","content":"hi"}]`

func TestParseCall(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, url, body string
		want            Call
	}{
		{"plain", PathChat, `{"model":"m",` + hello + `}`, Call{Model: "m", Choices: 1}},
		{"all limits", PathChat, `{"model":"m","max_completion_tokens":7,"max_tokens":9,"n":3,` + hello + `}`, Call{Model: "m", MaxTokens: 7, Choices: 3}},
		{"null is absent", PathChat, `{"model":"m","max_tokens":null,"stream":null,"service_tier":null,` + hello + `}`, Call{Model: "m", Choices: 1}},
		{"stream", PathChat, `{"model":"m","stream":true,"stream_options":{"include_usage":true},` + hello + `}`, Call{Model: "m", Choices: 1, Stream: true, IncludeUsage: true}},
		{"tier", PathChat, `{"model":"m","service_tier":"flex",` + hello + `}`, Call{Model: "m", Choices: 1, Class: schemas.Batch}},
		{"priority", PathCompletions, `{"model":"a/b@1","service_tier":"priority","prompt":"x","best_of":4}`, Call{Model: "a/b@1", Choices: 4, Class: schemas.Priority}},
		{
			"unknown fields pass", PathChat, `{"model":"m","zzz":[1],"guided_json":{},` + hello + `}`,
			Call{Model: "m", Choices: 1, Unknown: []string{"zzz", "guided_json"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseCall(tt.url, "", []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.URL, tt.want.ContentType, tt.want.Body, tt.want.PromptBytes = tt.url, JSON, []byte(tt.body), int64(len(tt.body))
			if diff := cmp.Diff(&tt.want, got.Clone(), cmp.AllowUnexported(Call{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseCallTakesOurFieldsOut(t *testing.T) {
	t.Parallel()
	c, err := ParseCall(PathChat, "application/json; charset=utf-8", []byte(
		`{"max_coefficient":1500, "model":"m", "timeout":2.5, `+hello+`, "enable_debug":true, "request_guid":"g-1"}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxMultiplier != 15_000 || c.Timeout != 2500*time.Millisecond || !c.Debug || c.GUID != "g-1" {
		t.Errorf("read %+v", c)
	}
	if want := `{"model":"m",` + hello + `}`; string(c.Body) != want {
		t.Errorf("the engine gets %s, want %s", c.Body, want)
	}
}

func TestCallDefault(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body, want string }{
		{"absent", `{"model":"m", "max_coefficient":1000}`, `{"model":"m","salt":"s"}`},
		{"null is absent", `{"salt":null,"model":"m"}`, `{"salt":"s","model":"m"}`},
		{"present", `{"model":"m", "salt":"own"}`, `{"model":"m", "salt":"own"}`},
	} {
		for _, cloned := range []bool{false, true} {
			c, err := ParseCall(PathChat, "", []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if cloned {
				c = c.Clone()
			}
			for range 2 {
				if err := c.Default("salt", Quote("s")); err != nil || string(c.Body) != tt.want {
					t.Errorf("%s: %s, %v, want %s", tt.name, c.Body, err, tt.want)
				}
			}
		}
	}
}

func TestParseCallRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, url, contentType, body, field string
		kind                                schemas.Kind
	}{
		{"no model", PathChat, "", `{` + hello + `}`, "model", schemas.KindInvalid},
		{"empty model", PathChat, "", `{"model":"",` + hello + `}`, "model", schemas.KindInvalid},
		{"model is a number", PathChat, "", `{"model":3}`, "model", schemas.KindInvalid},
		{"wildcard", PathChat, "", `{"model":"*"}`, "model", schemas.KindInvalid},
		{"subject wildcard", PathChat, "", `{"model":"a.>"}`, "model", schemas.KindInvalid},
		{"long model", PathChat, "", `{"model":"` + strings.Repeat("m", 300) + `"}`, "model", schemas.KindInvalid},
		{"array", PathChat, "", `[]`, "", schemas.KindInvalid},
		{"tier", PathChat, "", `{"model":"m","service_tier":"gold"}`, "service_tier", schemas.KindInvalid},
		{"no tokens", PathChat, "", `{"model":"m","max_tokens":0}`, "max_tokens", schemas.KindInvalid},
		{"fraction", PathChat, "", `{"model":"m","max_completion_tokens":1.5}`, "max_completion_tokens", schemas.KindInvalid},
		{"many choices", PathChat, "", `{"model":"m","n":1000}`, "n", schemas.KindInvalid},
		{"stream", PathChat, "", `{"model":"m","stream":"yes"}`, "stream", schemas.KindInvalid},
		{"usage", PathChat, "", `{"model":"m","stream_options":{"include_usage":1}}`, "stream_options.include_usage", schemas.KindInvalid},
		{"options", PathChat, "", `{"model":"m","stream_options":[]}`, "stream_options", schemas.KindInvalid},
		{"coefficient", PathChat, "", `{"model":"m","max_coefficient":0}`, "max_coefficient", schemas.KindInvalid},
		{"timeout", PathChat, "", `{"model":"m","timeout":-1}`, "timeout", schemas.KindInvalid},
		{"endless timeout", PathChat, "", `{"model":"m","timeout":1e300}`, "timeout", schemas.KindInvalid},
		{"debug", PathChat, "", `{"model":"m","enable_debug":"1"}`, "enable_debug", schemas.KindInvalid},
		{"guid", PathChat, "", `{"model":"m","request_guid":"` + strings.Repeat("g", 300) + `"}`, "request_guid", schemas.KindInvalid},
		{"content type", PathChat, "text/plain", `{"model":"m"}`, "Content-Type", schemas.KindInvalid},
		{"broken content type", PathChat, "/;;", `{"model":"m"}`, "Content-Type", schemas.KindInvalid},
		{"form to chat", PathChat, "multipart/form-data; boundary=x", `{"model":"m"}`, "Content-Type", schemas.KindInvalid},
		{"json to transcriptions", PathTranscriptions, "", `{"model":"m"}`, "Content-Type", schemas.KindInvalid},
		{"form without boundary", PathTranscriptions, "multipart/form-data", `x`, "", schemas.KindInvalid},
		{"unknown endpoint", "/v1/images", "", `{"model":"m"}`, "url", schemas.KindUnsupported},
		{"too large", PathChat, "", strings.Repeat(" ", schemas.MaxRequestBody+1), "", schemas.KindTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseCall(tt.url, tt.contentType, []byte(tt.body))
			var e *schemas.Error
			if !errors.As(err, &e) || e.Kind != tt.kind || e.Field != tt.field {
				t.Errorf("ParseCall = %v, want kind %v, field %q", err, tt.kind, tt.field)
			}
		})
	}
}

func TestParseCallReadsForms(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("file", "speech.wav")
	part.Write([]byte("RIFF"))
	w.WriteField("model", "whisper@1")
	w.Close()
	c, err := ParseCall(PathTranscriptions, w.FormDataContentType(), b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if c.Model != "whisper@1" || !bytes.Equal(c.Body, b.Bytes()) || c.ContentType != w.FormDataContentType() {
		t.Errorf("read %q, %q", c.Model, c.ContentType)
	}
}

// FuzzParseCall checks that no body makes it panic, and that what it lets through it lets through again.
func FuzzParseCall(f *testing.F) {
	f.Add(0, []byte(`{"model":"m",`+hello+`,"timeout":1,"n":2}`))
	f.Add(3, []byte(`{"model":"m","input":"x","max_output_tokens":4}`))
	f.Add(5, []byte("--x\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--x--\r\n"))
	f.Fuzz(func(t *testing.T, endpoint int, body []byte) {
		urls := Endpoints()
		url := urls[(endpoint%len(urls)+len(urls))%len(urls)]
		contentType := ""
		if url == PathTranscriptions {
			contentType = "multipart/form-data; boundary=x"
		}
		c, err := ParseCall(url, contentType, body)
		if err != nil {
			return
		}
		again, err := ParseCall(url, contentType, c.Body)
		if err != nil {
			t.Fatalf("what the engine gets is refused: %v", err)
		}
		if again.Model != c.Model || again.MaxTokens != c.MaxTokens || !bytes.Equal(again.Body, c.Body) {
			t.Fatalf("read twice it differs: %+v, %+v", c, again)
		}
	})
}

func TestRefusalOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		body   string
		after  time.Duration
		retry  bool
	}{
		{
			schemas.FieldError("messages[1].role", "must be a role"), 400,
			`{"error":{"message":"messages[1].role: must be a role","type":"invalid_request_error","param":"messages[1].role","code":"invalid_value"}}`, 0, false,
		},
		{
			&schemas.Error{Kind: schemas.KindBusy, Message: "the queue is full", RetryAfter: 7 * time.Second}, 429,
			`{"error":{"message":"the queue is full","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}`, 7 * time.Second, true,
		},
		{
			&schemas.Error{Kind: schemas.KindUnavailable}, 503,
			`{"error":{"message":"unavailable","type":"server_error","param":null,"code":"no_capacity"}}`, DefaultRetryAfter, true,
		},
		{
			errors.New("dial tcp 10.0.0.1: secret host"), 500,
			`{"error":{"message":"internal error","type":"server_error","param":null,"code":"unknown"}}`, 0, false,
		},
		{
			&schemas.Error{Kind: schemas.KindConflict, Message: "other body"}, 422,
			`{"error":{"message":"other body","type":"invalid_request_error","param":null,"code":"idempotency_conflict"}}`, 0, false,
		},
	} {
		r := RefusalOf(tt.err)
		if r.Status != tt.status || string(r.Body()) != tt.body || r.After != tt.after || r.Retry != tt.retry {
			t.Errorf("RefusalOf(%v) = %d %s after %v retry %v", tt.err, r.Status, r.Body(), r.After, r.Retry)
		}
	}
}
