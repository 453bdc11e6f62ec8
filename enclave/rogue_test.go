package enclave_test

import (
	"context"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// rogue is an attested worker whose software does not do what ours does: it makes its calls by hand.
type rogue struct {
	net     *enclavetest.Net
	channel *enclave.Channel
	ticket  []byte
}

// newRogue attests by hand.
func newRogue(t *testing.T, n *enclavetest.Net) *rogue {
	t.Helper()
	ask := func(verb enclave.Verb, request, reply any) {
		t.Helper()
		b, err := n.Call(t.Context(), verb, schemas.EncodeCall(request))
		if err != nil {
			t.Fatal(err)
		}
		if err := schemas.ParseCall(b, reply); err != nil {
			t.Fatal(err)
		}
	}
	var challenge schemas.ChallengeReply
	ask(enclave.VerbChallenge, &schemas.ChallengeRequest{Version: 1}, &challenge)
	private, claims := n.Claims(t, schemas.RoleWorker)
	made := n.World.Attest(t, n.World.Boot(t, n.World.Spec()), claims, schemas.ChallengeNonce(challenge.Token))
	evidence, err := made.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var session schemas.SessionReply
	ask(enclave.VerbSession, &schemas.SessionRequest{Version: 1, Token: challenge.Token, Evidence: evidence}, &session)
	channel, err := enclave.Accept(session.Enc, private)
	if err != nil {
		t.Fatal(err)
	}
	return &rogue{n, channel, session.Ticket}
}

// grant asks for one job and returns the refusal.
func (r *rogue) grant(ctx context.Context, call schemas.GrantCall) error {
	sealed := r.channel.SealCall(enclave.VerbGrant, r.ticket, schemas.EncodeCall(&call))
	reply, err := r.net.Call(ctx, enclave.VerbGrant, schemas.EncodeCall(&schemas.SealedCall{Version: 1, Ticket: r.ticket, Sealed: sealed}))
	if err != nil {
		return err
	}
	var outer schemas.SealedReply
	if err := schemas.ParseCall(reply, &outer); err != nil {
		return err
	}
	plain, err := r.channel.OpenReply(sealed, outer.Sealed)
	if err != nil {
		return err
	}
	var inner schemas.GrantReply
	if err := schemas.ParseCall(plain, &inner); err != nil {
		return err
	}
	return inner.Jobs[0].Refusal.Err()
}

// TestRogueWorker: the broker believes nothing that an attested worker says about a job.
func TestRogueWorker(t *testing.T) {
	t.Parallel()
	n := enclavetest.New(t)
	tenant := n.Tenant(t)
	submission := enclave.NewSubmission(tenant, n.Key(t))
	r := newRogue(t, n)
	for name, c := range map[string]struct {
		want   string
		change func(*schemas.GrantCall)
	}{
		"honest":                  {"ok", func(*schemas.GrantCall) {}},
		"another recipient list":  {"invalid", func(c *schemas.GrantCall) { c.Jobs[0].Recipients[0] ^= 1 }},
		"no such mode":            {"unsupported", func(c *schemas.GrantCall) { c.Jobs[0].Mode = 7 }},
		"pin without permission":  {"invalid", func(c *schemas.GrantCall) { c.Jobs[0].Mode = schemas.ModePin }},
		"more money":              {"not_openable", func(c *schemas.GrantCall) { c.Jobs[0].Attributes.Budget *= 2 }},
		"another tenant's":        {"not_openable", func(c *schemas.GrantCall) { c.Jobs[0].Attributes.Tenant = n.Tenant(t).ID() }},
		"attributes out of shape": {"invalid", func(c *schemas.GrantCall) { c.Jobs[0].Attributes.Attempts = 99 }},
		"an encapsulation unsent": {"invalid", func(c *schemas.GrantCall) { c.Jobs[0].Enc = 5 }},
		"no jobs":                 {"invalid", func(c *schemas.GrantCall) { c.Jobs = nil }},
		"yesterday's":             {"replayed", func(c *schemas.GrantCall) { c.Sent -= 86_400 }},
		"a forged permission": {"invalid", func(c *schemas.GrantCall) {
			j := &c.Jobs[0]
			j.Mode = schemas.ModePin
			j.Spend = schemas.EncodeCBOR(&schemas.Spend{Tenant: j.Attributes.Tenant, Job: j.Attributes.ID, Ceiling: j.Attributes.Budget, Multiplier: schemas.One})
		}},
	} {
		sealed := n.Seal(t, submission, "x")
		e, err := schemas.ParseEnvelope(sealed.Envelope)
		if err != nil {
			t.Fatal(err)
		}
		call := schemas.GrantCall{Sent: time.Now().Unix(), Encs: [][]byte{e.Recipients[0].Enc}, Jobs: []schemas.GrantJob{{
			Attributes: sealed.Attributes.Fields(), Mode: e.Mode, Index: e.Recipients[0].Index, Wrapped: e.Recipients[0].Wrapped,
			Commit: e.Commit, Payload: e.PayloadHash(), Recipients: e.RecipientsHash(),
		}}}
		c.change(&call)
		if err := r.grant(t.Context(), call); outcomeName(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
