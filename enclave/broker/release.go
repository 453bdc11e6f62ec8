package broker

import (
	"slices"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// release answers VerbRelease: the key of a model's sealed weights, for a worker that is admitted for the model.
func (b *Broker) release(request []byte) ([]byte, error) {
	var call schemas.ReleaseCall
	c, err := b.enter(enclave.VerbRelease, request, &call)
	if err != nil {
		return nil, err
	}
	key, err := b.weightKey(c, &call)
	b.audit(Decision{Verb: enclave.VerbRelease, Worker: c.id, Evidence: c.Evidence, Policy: c.Policy, Model: call.Model}, err)
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	return c.reply(&schemas.ReleaseReply{Key: key}), nil
}

// weightKey decides and unwraps.
func (b *Broker) weightKey(c *caller, call *schemas.ReleaseCall) ([32]byte, error) {
	if !slices.Contains(c.Models, call.Model) {
		return [32]byte{}, &schemas.Error{Kind: schemas.KindDenied, Field: "model", Message: "this worker is not admitted for the model"}
	}
	return enclave.UnwrapWeightKey(b.group.weights, call.Model, call.Enc, call.Wrapped)
}
