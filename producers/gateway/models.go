package gateway

import (
	"net/http"

	"github.com/cocoon-network/cocoon/schemas"
)

// modelForm is OpenAI's model object and what the catalogue says besides.
type modelForm struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`

	Full        schemas.ModelID     `json:"cocoon_id"`
	Context     int                 `json:"context_window"`
	Endpoints   []string            `json:"endpoints"`
	Price       schemas.Price       `json:"price"`
	Environment schemas.Environment `json:"environment"`
}

// listForm is OpenAI's list.
type listForm[T any] struct {
	Object string `json:"object"`
	Data   []T    `json:"data"`
	// FirstID and LastID are for the next page.
	FirstID *string `json:"first_id,omitempty"`
	LastID  *string `json:"last_id,omitempty"`
	HasMore bool    `json:"has_more"`
}

// models lists the catalogue. A model goes by its short name where that is unambiguous.
func models(c *schemas.Catalogue) []modelForm {
	names := map[string]int{}
	refs := make([]schemas.ModelRef, len(c.Models))
	for i := range c.Models {
		ref, err := schemas.ParseModelID(string(c.Models[i].ID))
		if err != nil {
			continue // a verified catalogue has none such
		}
		refs[i] = ref
		names[ref.Name]++
	}
	list := make([]modelForm, len(c.Models))
	for i := range c.Models {
		m := &c.Models[i]
		id := refs[i].Name
		if names[id] > 1 {
			id += "@" + refs[i].Revision
		}
		list[i] = modelForm{
			ID: id, Object: "model", Created: c.Issued.Unix(), OwnedBy: "cocoon", Full: m.ID, Context: m.Context, Endpoints: m.Endpoints,
			Price: m.Price, Environment: c.Environment,
		}
	}
	return list
}

// listModels serves GET /v1/models.
func (g *Gateway) listModels(w http.ResponseWriter, r *http.Request, _ *caller) error {
	c, err := g.o.Client.Catalogue(r.Context())
	if err != nil {
		return err
	}
	return g.writeJSON(w, listForm[modelForm]{Object: "list", Data: models(c)})
}

// getModel serves GET /v1/models/{id}; the id is any name that a request may use.
func (g *Gateway) getModel(w http.ResponseWriter, r *http.Request, _ *caller) error {
	c, err := g.o.Client.Catalogue(r.Context())
	if err != nil {
		return err
	}
	m, err := c.Find(r.PathValue("id"))
	if err != nil {
		return err
	}
	for _, form := range models(c) {
		if form.Full == m.ID {
			return g.writeJSON(w, form)
		}
	}
	return &schemas.Error{Kind: schemas.KindUnknownModel, Field: "model", Message: "is not in the catalogue"}
}
