package schemas

import (
	"fmt"
	"time"
)

// Limits of a catalogue.
const (
	MaxModels          = 20_000
	MaxModelLocations  = 8
	MaxModelEndpoints  = 16
	MaxModelContext    = 1 << 24
	MaxNetworkFee      = 5_000 // basis points
	MaxCatalogueTerm   = 400 * 24 * time.Hour
	MaxShards          = 1024
	MaxDocumentSize    = 16 << 20
	CatalogueMediaType = "application/vnd.cocoon.catalogue.v1+json"
	PolicyMediaType    = "application/vnd.cocoon.policy.v1+json"
)

// Catalogue says which models the network serves and what they cost. It is signed like a policy (DSSE, k of n), its
// version only grows, and receipts are priced by the version their grant names.
type Catalogue struct {
	// V is the version of the form, 1.
	V int `json:"v"`
	// Version counts up with every publication.
	Version uint64 `json:"version"`
	// Issued and Expires bound it; after Expires no new grants are given under it.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Environment must equal that of the policy.
	Environment Environment `json:"environment"`
	// Classes gives every class its price multiplier.
	Classes map[Class]BasisPoints `json:"classes"`
	// FeeBP is the network's share of each charge in basis points, at most MaxNetworkFee.
	FeeBP BasisPoints `json:"fee_bp"`
	// Models is sorted by id.
	Models []Model `json:"models"`
}

// Model is one entry of the catalogue.
type Model struct {
	// ID is the full model id.
	ID ModelID `json:"id"`
	// Slug is the model's subject token; it must equal the slug derived from the id.
	Slug string `json:"slug"`
	// Shard is the job stream this model's jobs go to. It is kept here and never recomputed.
	Shard int `json:"shard"`
	// Format is "gguf" or "safetensors".
	Format string `json:"format"`
	// Context is the largest number of prompt and answer tokens of one job.
	Context int `json:"context"`
	// Endpoints are the OpenAI urls the model answers, such as /v1/chat/completions.
	Endpoints []string `json:"endpoints"`
	// Price is per million tokens at multiplier 1×.
	Price Price `json:"price"`
	// Locations says where the sealed weights lie: object:<name> in the network's object store, https:// or file://.
	// Empty means that workers bring the weights themselves.
	Locations []string `json:"locations,omitempty"`
	// Sealed tells that the weights at Locations are encrypted and only the broker releases their key.
	Sealed bool `json:"sealed,omitempty"`
}

// Find returns the entry with the given id, or with the given bare name when that is unambiguous.
func (c *Catalogue) Find(idOrName string) (*Model, error) {
	var found *Model
	for i := range c.Models {
		m := &c.Models[i]
		if string(m.ID) == idOrName {
			return m, nil
		}
		ref, err := ParseModelID(string(m.ID))
		if err != nil {
			return nil, err
		}
		if ref.Name == idOrName || ref.Name+"@"+ref.Revision == idOrName {
			if found != nil {
				return nil, &Error{Kind: KindUnknownModel, Field: "model", Message: "is the name of several models; add @revision"}
			}
			found = m
		}
	}
	if found == nil {
		return nil, &Error{Kind: KindUnknownModel, Field: "model", Message: "is not in the catalogue"}
	}
	return found, nil
}

// Multiplier is the price multiplier of a class.
func (c *Catalogue) Multiplier(class Class) BasisPoints { return c.Classes[class] }

// Cost prices a usage of a model under this catalogue.
func (c *Catalogue) Cost(id ModelID, u Usage, multiplier BasisPoints) (Charge, error) {
	for i := range c.Models {
		if c.Models[i].ID == id {
			return PriceOf(u, c.Models[i].Price, multiplier, c.FeeBP)
		}
	}
	return Charge{}, &Error{Kind: KindUnknownModel, Field: "model", Message: "is not in this catalogue"}
}

// ParseCatalogue reads the payload of a signed catalogue strictly and checks it.
func ParseCatalogue(b []byte) (*Catalogue, error) {
	var c Catalogue
	if err := DecodeJSON(b, &c, MaxDocumentSize); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return &c, nil
}

// Check refuses catalogues that nobody may publish.
func (c *Catalogue) Check() error {
	if c.V != 1 {
		return invalid("v", "must be 1")
	}
	if c.Version == 0 {
		return invalid("version", "must be at least 1")
	}
	if c.Environment != Production && c.Environment != Simulated {
		return invalid("environment", "must be production or simulated")
	}
	if !wholeSecond(c.Issued) || !wholeSecond(c.Expires) || !c.Expires.After(c.Issued) || c.Expires.Sub(c.Issued) > MaxCatalogueTerm {
		return invalid("expires", "must lie after issued, by at most 400 days")
	}
	if c.FeeBP > MaxNetworkFee {
		return invalid("fee_bp", "is above 5,000 basis points")
	}
	if len(c.Classes) != len(Classes()) {
		return invalid("classes", "must give a multiplier to priority, standard and batch")
	}
	for _, class := range Classes() {
		if m, ok := c.Classes[class]; !ok || m == 0 || m > MaxMultiplier {
			return invalid("classes."+string(class), "must lie between 1 and 1,000,000 basis points")
		}
	}
	if len(c.Models) > MaxModels {
		return &Error{Kind: KindTooLarge, Field: "models", Message: "has more than 20,000 entries"}
	}
	for i := range c.Models {
		if err := c.Models[i].check(); err != nil {
			return rename(err, fmt.Sprintf("models[%d].%s", i, err.(*Error).Field))
		}
		if i > 0 && c.Models[i-1].ID >= c.Models[i].ID {
			return invalid(fmt.Sprintf("models[%d].id", i), "models must be sorted by id without duplicates")
		}
	}
	return nil
}

// check refuses a bad entry; every error it returns is an *Error with a field.
func (m *Model) check() error {
	ref, err := ParseModelID(string(m.ID))
	if err != nil {
		return rename(err, "id")
	}
	if m.Slug != ref.Slug() {
		return invalid("slug", "must be "+ref.Slug())
	}
	if m.Shard < 0 || m.Shard >= MaxShards {
		return invalid("shard", "must lie between 0 and 1,023")
	}
	if m.Format != "gguf" && m.Format != "safetensors" {
		return invalid("format", "must be gguf or safetensors")
	}
	if m.Context < 1 || m.Context > MaxModelContext {
		return invalid("context", "must lie between 1 and 16,777,216 tokens")
	}
	if len(m.Endpoints) < 1 || len(m.Endpoints) > MaxModelEndpoints {
		return invalid("endpoints", "must have 1 to 16 entries")
	}
	if len(m.Locations) > MaxModelLocations {
		return invalid("locations", "must have at most 8 entries")
	}
	return m.Price.check()
}
