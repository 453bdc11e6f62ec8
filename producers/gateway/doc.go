// Package gateway serves OpenAI's HTTP API over the network: change the base URL of an application and its requests are
// sealed, run in attested enclaves, verified and paid by receipt.
//
// It belongs on the tenant's side: it sees every prompt and answer in the clear and holds the tenant's identity. It
// listens on loopback unless told otherwise, and says in every answer's headers which environment it trusts.
//
// Start with [New], which returns an http.Handler, and let [Gateway.Run] do what goes on in the background (batches
// that were left by an earlier process). [OpenKeys] keeps the API keys: hashed, with limits on rate and spending. A
// cap counts what receipts have charged and what requests and batches under way may still cost.
//
// What it refuses: bodies above the limit of a request, wrong content types, fields with values that OpenAI's API
// does not have, and keys that have spent their cap. Every refusal is an OpenAI error object that names the field;
// Retry-After stands on each that is worth repeating and x-should-retry: false on each that is not.
//
// What it promises: a request with an Idempotency-Key runs once, and a second one gets the stored answer (another
// body under the same key is 422). A stream that breaks ends with an error event, never as if it were complete. When
// the client goes away the job is cancelled, or goes on when Options.Detach says so; either way only what was
// produced is billed. An answer's usage carries what it cost, from the receipt.
package gateway
