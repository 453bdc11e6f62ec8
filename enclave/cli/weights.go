package cli

import (
	"context"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/broker"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// WeightsKey fetches the brokers' weights key and verifies the evidence of the broker that vouches for it.
func WeightsKey(ctx context.Context, bus *streams.Bus, verifier enclave.Verifier) (schemas.WeightsKey, error) {
	entry, err := bus.Bucket(streams.BucketKeys).Get(ctx, broker.WeightsKeyName)
	if err != nil {
		return schemas.WeightsKey{}, err
	}
	return enclave.VerifyWeightsKey(ctx, verifier, entry.Value)
}
