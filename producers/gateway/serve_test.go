package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// serve calls a handler without a server and returns the body; the status must be below 400.
func serve(t *testing.T, h http.Handler, method, path, contentType, body string) string {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code >= 400 {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Body.String()
}

// field reads a string field of a JSON object.
func field(t *testing.T, object, name string) string {
	t.Helper()
	var o map[string]json.RawMessage
	if err := json.Unmarshal([]byte(object), &o); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	var s string
	if err := json.Unmarshal(o[name], &s); err != nil {
		t.Fatalf("%s of %s: %v", name, object, err)
	}
	return s
}
