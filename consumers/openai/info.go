package openai

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/cocoon-network/cocoon/consumers"
	"github.com/cocoon-network/cocoon/schemas"
)

// modelObject is what servers say about a model.
type modelObject struct {
	ID     string `json:"id"`
	Owner  string `json:"owned_by"`
	MaxLen int    `json:"max_model_len"`
	Meta   struct {
		Context int `json:"n_ctx_train"` // llama-server
	} `json:"meta"`

	Architecture string   `json:"architecture"` // these are ours
	Slots        int      `json:"slots"`
	Endpoints    []string `json:"endpoints"`
	ExactCounts  bool     `json:"exact_counts"`
	Logprobs     bool     `json:"logprobs"`
	Fingerprint  string   `json:"fingerprint"`
	Build        string   `json:"build"`
}

// everything is what a server of unknown make is believed to offer; it refuses itself what it does not.
var everything = []string{
	consumers.PathChat, consumers.PathCompletions, consumers.PathEmbeddings, consumers.PathResponses,
	consumers.PathSpeech, consumers.PathTranscriptions,
}

// Info implements consumers.Engine. The server is asked once after it came up.
func (e *Engine) Info(ctx context.Context) (consumers.Info, error) {
	e.mu.Lock()
	info, known := e.info, e.known
	e.mu.Unlock()
	if known {
		return info, nil
	}
	var list struct {
		Data []modelObject `json:"data"`
	}
	if err := e.client.get(ctx, "/v1/models", &list); err != nil {
		return consumers.Info{}, err
	}
	i := slices.IndexFunc(list.Data, func(m modelObject) bool { return e.o.Model == "" || m.ID == e.o.Model })
	if i < 0 {
		return consumers.Info{}, &schemas.Error{Kind: schemas.KindUnknownModel, Field: "model", Message: "the model server does not have the model"}
	}
	e.learn(ctx, &list.Data[i])
	return e.info, nil
}

// learn keeps what a server says about its model.
func (e *Engine) learn(ctx context.Context, m *modelObject) {
	f := flavourNamed(e.o.Flavour)
	if e.o.Flavour == "" {
		f = flavourOwned(m.Owner)
	}
	slots := m.Slots
	if f.name == "llama-server" {
		slots = e.totalSlots(ctx)
	}
	info := consumers.Info{
		Model: m.ID, Architecture: m.Architecture, Flavour: f.name, Context: max(m.MaxLen, m.Meta.Context), Slots: slots, Endpoints: m.Endpoints,
		ExactCounts: f.name != "cocoon" || m.ExactCounts, Logprobs: f.name != "cocoon" || m.Logprobs,
		Fingerprint: m.Fingerprint, Build: m.Build,
	}
	if len(info.Endpoints) == 0 {
		info.Endpoints = everything
	}
	if info.Fingerprint == "" {
		info.Fingerprint = f.name + "-" + m.ID
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.info, e.known, e.flavour = info, true, f
	if slots > 0 {
		e.control.fixed = false // it may have changed, and what it refused before it went down does not matter
		e.control.exact(min(e.o.Slots, slots+max(1, slots/8)))
	}
}

// totalSlots is what llama-server calls its number of parallel requests, 0 if it does not tell.
func (e *Engine) totalSlots(ctx context.Context) int {
	var props struct {
		Slots int `json:"total_slots"`
	}
	if err := e.client.get(ctx, "/props", &props); err != nil {
		return 0
	}
	return props.Slots
}

// name is the server's name of the model.
func (e *Engine) name() (string, flavour) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.o.Model != "" {
		return e.o.Model, e.flavour
	}
	return e.info.Model, e.flavour
}

// Count implements consumers.Engine. Without a tokenizer on the server the number is an estimate: four bytes a token.
func (e *Engine) Count(ctx context.Context, r *consumers.Request) (int, bool, error) {
	var body map[string]json.RawMessage
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return 0, false, &schemas.Error{Kind: schemas.KindInvalid, Message: "the request body must be a JSON object"}
	}
	if _, err := e.Info(ctx); err != nil {
		return 0, false, err
	}
	if model, f := e.name(); f.tokenize {
		ask := map[string]any{"model": model}
		for k, v := range body {
			if k == "messages" || k == "prompt" || k == "tools" || f.name == "cocoon" && k != "model" {
				ask[k] = v
			}
		}
		n, err := e.tokenize(ctx, ask)
		return n, err == nil, err
	}
	const bytesPerToken = 4
	return (len(body["messages"]) + len(body["prompt"]) + bytesPerToken - 1) / bytesPerToken, false, nil
}

// tokenize asks the server how many tokens something has.
func (e *Engine) tokenize(ctx context.Context, ask map[string]any) (int, error) {
	var out struct {
		Count *int `json:"count"`
	}
	if err := e.client.post(ctx, "/tokenize", ask, &out); err != nil {
		return 0, err
	}
	if out.Count == nil || *out.Count < 0 {
		return 0, &schemas.Error{Kind: schemas.KindEngine, Message: "the model server does not count tokens"}
	}
	return *out.Count, nil
}
