package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// otlp sends spans to a collector in the JSON form of OTLP over HTTP. OpenTelemetry's own exporter links gRPC and half a
// measured worker again; what a span has here needs one request and no more.
type otlp struct {
	url    string
	header http.Header
	client *http.Client
}

var _ sdk.SpanExporter = (*otlp)(nil)

// otlpTimeout bounds one request. otlpAnswer bounds what is read of its answer, in bytes.
const (
	otlpTimeout = 10 * time.Second
	otlpAnswer  = 64 << 10
)

// newOTLP checks where spans go, and the headers that go with them ("name=value,…", percent-encoded).
func newOTLP(to, headers string) (*otlp, error) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, Usagef("%s must be the http or https url of a collector, not %q", envOTLP, to)
	}
	o := &otlp{url: to, header: http.Header{"Content-Type": {"application/json"}}, client: &http.Client{Timeout: otlpTimeout}}
	for pair := range strings.SplitSeq(headers, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil {
			return nil, Usagef("%s must look like name=value,name=value", envHeaders)
		}
		o.header.Set(strings.TrimSpace(name), value)
	}
	return o, nil
}

// ExportSpans implements sdk.SpanExporter. What a collector does not take is lost.
func (o *otlp) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := json.Marshal(otlpRequest(spans))
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	r.Header = o.header
	answer, err := o.client.Do(r)
	if err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, otlpAnswer)); err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("collector: %s", answer.Status)
	}
	return nil
}

// Shutdown implements sdk.SpanExporter.
func (o *otlp) Shutdown(context.Context) error {
	o.client.CloseIdleConnections()
	return nil
}

// The JSON form of ExportTraceServiceRequest. Ids are hexadecimal, 64-bit numbers are strings.
type (
	otlpSpans struct {
		ResourceSpans []otlpResource `json:"resourceSpans"`
	}
	otlpResource struct {
		Resource otlpAbout   `json:"resource"`
		Scopes   []otlpScope `json:"scopeSpans"`
	}
	otlpAbout struct {
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpScope struct {
		Scope otlpName   `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpName struct {
		Name string `json:"name"`
	}
	otlpSpan struct {
		Trace      string          `json:"traceId"`
		Span       string          `json:"spanId"`
		Parent     string          `json:"parentSpanId,omitempty"`
		Name       string          `json:"name"`
		Kind       int             `json:"kind"`
		Start      string          `json:"startTimeUnixNano"`
		End        string          `json:"endTimeUnixNano"`
		Attributes []otlpAttribute `json:"attributes,omitempty"`
		Links      []otlpLink      `json:"links,omitempty"`
		Status     *otlpStatus     `json:"status,omitempty"`
	}
	otlpAttribute struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	}
	otlpLink struct {
		Trace string `json:"traceId"`
		Span  string `json:"spanId"`
	}
	otlpStatus struct {
		Code    int    `json:"code"`
		Message string `json:"message,omitempty"`
	}
)

// Numbers of the protocol.
const (
	otlpInternal = 1 // the kind of all our spans
	otlpError    = 2 // the status of a span that failed
)

// otlpRequest spells spans. All of them are of one process and one instrumentation.
func otlpRequest(spans []sdk.ReadOnlySpan) otlpSpans {
	scope := otlpScope{Scope: otlpName{spans[0].InstrumentationScope().Name}}
	for _, s := range spans {
		scope.Spans = append(scope.Spans, spellSpan(s))
	}
	about := otlpAbout{spellAttributes(spans[0].Resource().Attributes())}
	return otlpSpans{[]otlpResource{{about, []otlpScope{scope}}}}
}

// spellSpan spells one span.
func spellSpan(s sdk.ReadOnlySpan) otlpSpan {
	o := otlpSpan{
		Trace: s.SpanContext().TraceID().String(), Span: s.SpanContext().SpanID().String(), Name: s.Name(), Kind: otlpInternal,
		Start: nanoseconds(s.StartTime()), End: nanoseconds(s.EndTime()), Attributes: spellAttributes(s.Attributes()),
	}
	if parent := s.Parent().SpanID(); parent != (trace.SpanID{}) {
		o.Parent = parent.String()
	}
	for _, l := range s.Links() {
		o.Links = append(o.Links, otlpLink{l.SpanContext.TraceID().String(), l.SpanContext.SpanID().String()})
	}
	if s.Status().Code == codes.Error {
		o.Status = &otlpStatus{otlpError, s.Status().Description}
	}
	return o
}

// nanoseconds spells a moment.
func nanoseconds(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// spellAttributes spells attributes: integers as such, everything else as text.
func spellAttributes(list []attribute.KeyValue) []otlpAttribute {
	var all []otlpAttribute
	for _, a := range list {
		value := map[string]any{"stringValue": a.Value.String()}
		if a.Value.Type() == attribute.INT64 {
			value = map[string]any{"intValue": a.Value.String()}
		}
		all = append(all, otlpAttribute{string(a.Key), value})
	}
	return all
}
