package engineserver

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// Model describes a loaded model, in OpenAI's shape with what else we know.
type Model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	MaxLen  int    `json:"max_model_len"`

	Architecture string   `json:"architecture,omitempty"`
	Slots        int      `json:"slots,omitempty"`
	Endpoints    []string `json:"endpoints,omitempty"`
	ExactCounts  bool     `json:"exact_counts"`
	Logprobs     bool     `json:"logprobs"`
	Fingerprint  string   `json:"fingerprint,omitempty"`
	Build        string   `json:"build,omitempty"`
}

// describeModel asks an engine.
func (s *Server) describeModel(h *http.Request, name string) (Model, error) {
	e, err := s.engine(name)
	if err != nil {
		return Model{}, err
	}
	i, err := e.Info(h.Context())
	if err != nil {
		return Model{}, err
	}
	return Model{
		ID: name, Object: "model", Created: s.started.Unix(), OwnedBy: "cocoon", MaxLen: i.Context, Architecture: i.Architecture,
		Slots: i.Slots, Endpoints: i.Endpoints, ExactCounts: i.ExactCounts, Logprobs: i.Logprobs, Fingerprint: i.Fingerprint, Build: i.Build,
	}, nil
}

// models lists what is loaded.
func (s *Server) models(w http.ResponseWriter, h *http.Request) {
	list := struct {
		Object string  `json:"object"`
		Data   []Model `json:"data"`
	}{"list", []Model{}}
	for _, name := range s.names() {
		if m, err := s.describeModel(h, name); err == nil { // one may be unloaded meanwhile
			list.Data = append(list.Data, m)
		}
	}
	answer(w, http.StatusOK, list)
}

func (s *Server) model(w http.ResponseWriter, h *http.Request) {
	m, err := s.describeModel(h, h.PathValue("name"))
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, m)
}

// Health is the answer of /health.
type Health struct {
	// Status is ok, empty (nothing is loaded), draining, stuck or failed.
	Status string `json:"status"`
	// Model is the one at fault.
	Model string `json:"model,omitempty"`
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	h := s.state()
	code := http.StatusOK
	if h.Status != "ok" {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, h)
}

// state looks at all engines.
func (s *Server) state() Health {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.draining:
		return Health{Status: "draining"}
	case len(s.engines) == 0:
		return Health{Status: "empty"}
	}
	for name, e := range s.engines {
		if !e.Capacity().Healthy {
			return Health{"failed", name}
		}
		if st, ok := e.(Stepper); ok {
			if since := st.Stepping(); !since.IsZero() && time.Since(since) > s.o.StuckAfter {
				return Health{"stuck", name}
			}
		}
	}
	return Health{Status: "ok"}
}

// order is the body of /models/load and /models/unload.
func order(w http.ResponseWriter, h *http.Request) (string, error) {
	const most = 4 << 10
	b, err := io.ReadAll(http.MaxBytesReader(w, h.Body, most))
	var o struct {
		Model string `json:"model"`
	}
	if err != nil || json.Unmarshal(b, &o) != nil || o.Model == "" {
		return "", schemas.FieldError("model", "must be the name of a model")
	}
	return o.Model, nil
}

func (s *Server) load(w http.ResponseWriter, h *http.Request) {
	name, err := order(w, h)
	if err == nil {
		err = s.open(h, name)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	m, err := s.describeModel(h, name)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, m)
}

// open loads a model unless it is there.
func (s *Server) open(h *http.Request, name string) error {
	if _, err := s.engine(name); err == nil {
		return nil
	}
	var e consumers.Engine
	e, err := s.o.Load(h.Context(), name)
	if err != nil {
		return err
	}
	if err := s.Add(name, e); err != nil {
		e.Close()
		return err
	}
	return nil
}

func (s *Server) unload(w http.ResponseWriter, h *http.Request) {
	name, err := order(w, h)
	if err == nil {
		err = s.Unload(h.Context(), name)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, struct {
		Unloaded string `json:"unloaded"`
	}{name})
}
