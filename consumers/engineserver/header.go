package engineserver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Headers of a trusted connection.
const (
	// HeaderRequest names the request.
	HeaderRequest = "X-Request-Id"
	// HeaderTenant is the scope of shared memory and of fairness.
	HeaderTenant = "Cocoon-Tenant"
	// HeaderPriority is an integer, higher first.
	HeaderPriority = "Cocoon-Priority"
	// HeaderDeadline is a time in Unix milliseconds.
	HeaderDeadline = "Cocoon-Deadline"
)

// maxHeader bounds a value that we keep.
const maxHeader = 128

// newRequest reads the headers.
func (s *Server) newRequest(h *http.Request, body []byte) (*consumers.Request, error) {
	content, _, _ := strings.Cut(h.Header.Get("Content-Type"), ";")
	r := &consumers.Request{URL: h.URL.Path, ContentType: strings.TrimSpace(content), Body: body}
	if !s.o.Trusted {
		return r, nil
	}
	r.ID, r.Tenant = h.Header.Get(HeaderRequest), schemas.TenantID(h.Header.Get(HeaderTenant))
	if len(r.ID) > maxHeader || len(r.Tenant) > maxHeader {
		return nil, schemas.FieldError("headers", "a header is too long")
	}
	if v := h.Header.Get(HeaderPriority); v != "" {
		n, err := strconv.ParseInt(v, 10, 16)
		if err != nil {
			return nil, schemas.FieldError(HeaderPriority, "must be a small integer")
		}
		r.Priority = int(n)
	}
	if v := h.Header.Get(HeaderDeadline); v != "" {
		ms, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, schemas.FieldError(HeaderDeadline, "must be Unix milliseconds")
		}
		r.Deadline = time.UnixMilli(ms)
	}
	return r, nil
}
