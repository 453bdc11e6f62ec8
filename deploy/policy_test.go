package deploy

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/schemas"
)

// TestSimulatedImages holds the measurements of the simulated images to what the simulated hardware measures.
func TestSimulatedImages(t *testing.T) {
	t.Parallel()
	platform, err := sim.New([sim.SeedSize]byte{}, sim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	policy := platform.Policy(sim.PolicySpec{Images: []sim.ImageRule{
		{Name: "cocoon-broker", Role: schemas.RoleBroker},
		{Name: "cocoon-worker", Role: schemas.RoleWorker, MinGPUs: 1, MaxGPUs: 1},
	}})
	for i, path := range []string{"policy/simulated-broker.json", "policy/simulated-worker.json"} {
		want, err := json.MarshalIndent(policy.Measurements[i], "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.TrimSpace(read(t, path)); !bytes.Equal(got, want) {
			t.Errorf("%s must be:\n%s", path, want)
		}
	}
}

// TestExampleDocuments reads the examples as the program does. They are drafts: nobody has signed them.
func TestExampleDocuments(t *testing.T) {
	t.Parallel()
	policy, err := schemas.ParsePolicy(read(t, "policy/policy.example.json"))
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := schemas.ParseCatalogue(read(t, "policy/catalogue.example.json"))
	if err != nil {
		t.Fatal(err)
	}
	if policy.Environment != schemas.Production || catalogue.Environment != schemas.Production {
		t.Errorf("environments %s and %s", policy.Environment, catalogue.Environment)
	}
	admitted := map[schemas.ModelID]bool{}
	for _, id := range policy.Models {
		admitted[id] = true
	}
	for _, m := range catalogue.Models {
		if !admitted[m.ID] {
			t.Errorf("the catalogue sells %s, and the policy does not admit it", m.ID)
		}
	}
	roles := map[schemas.Role]bool{}
	for _, m := range policy.Measurements {
		roles[m.Role] = true
	}
	if !roles[schemas.RoleBroker] || !roles[schemas.RoleWorker] || len(catalogue.Models) == 0 {
		t.Error("the examples leave out a role or have no model")
	}
}
