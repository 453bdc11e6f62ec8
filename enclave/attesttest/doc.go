// Package attesttest tests attesters and verifiers.
//
// [New] gives a [World]: simulated hardware with a policy in force and a clock that tests own. [Conform] is what any
// attester must pass in front of the production verifier, and [Refusals] is the list of everything that a verifier must
// refuse, each with the kind and the field of the refusal. The list is data, so that other paths to a verifier (a broker's
// session, an auth callout, a command) can run all of it too: whoever admits evidence must refuse the same things.
//
// The package imports testing; only tests import it.
package attesttest
