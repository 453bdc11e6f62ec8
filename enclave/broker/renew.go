package broker

import (
	"context"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/schemas"
)

// renew answers VerbRenew: leases are prolonged or given back, each on its own. The grant itself proves the lease, so any
// broker of the group can do it, also one that has just started.
func (b *Broker) renew(ctx context.Context, request []byte) ([]byte, error) {
	var call schemas.RenewCall
	c, err := b.enter(enclave.VerbRenew, request, &call)
	if err != nil {
		return nil, err
	}
	reply := schemas.GrantReply{Jobs: make([]schemas.GrantAnswer, len(call.Jobs))}
	var told []gossip
	for i, entry := range call.Jobs {
		g, token, err := b.renewOne(c, entry)
		if err != nil {
			b.audit(Decision{Verb: enclave.VerbRenew, Worker: c.id, Evidence: c.Evidence, Policy: c.Policy}, err)
			reply.Jobs[i].Refusal = refusal(err)
			continue
		}
		reply.Jobs[i].Grant = token
		told = append(told, *g)
	}
	b.tell(ctx, told)
	return c.reply(&reply), nil
}

// renewOne treats one lease.
func (b *Broker) renewOne(c *caller, entry schemas.RenewJob) (*gossip, string, error) {
	grant, err := b.heldGrant(c, entry)
	if err != nil {
		return nil, "", err
	}
	if grant.Worker != c.id {
		return nil, "", &schemas.Error{Kind: schemas.KindDenied, Message: "is another worker's grant"}
	}
	now := time.Now().UTC()
	key, issued := keyOf(grant.Tenant, grant.Job), now.Truncate(time.Second)
	until, expiry := issued, issued.Add(schemas.MaxLifetime)
	if entry.End == schemas.LeaseKept {
		until = issued.Add(b.cfg.LeaseTerm)
	}
	if err := b.leases.renew(&grant, until, expiry, now); err != nil {
		return nil, "", err
	}
	told := &gossip{Key: key, Attempt: uint8(grant.Attempt), Worker: c.id, Until: until.Unix(), Expiry: expiry.Unix()}
	if entry.End != schemas.LeaseKept {
		b.book.end(grant.Tenant, key, entry.End == schemas.LeaseDone, now)
		return told, "", nil
	}
	b.book.prolong(grant.Tenant, key, until)
	grant.Issued, grant.Lease = issued, until
	token, err := enclave.SignGrant(b.group.sign, grant)
	return told, token, err
}

// heldGrant is the grant that a renewal shows. A lease that is only ended needs no signature when the table has it: inside
// its session a worker ends its own leases and nobody else's, and nothing of the grant is signed again.
func (b *Broker) heldGrant(c *caller, entry schemas.RenewJob) (schemas.Grant, error) {
	if entry.End != schemas.LeaseKept {
		grant, _, err := enclave.ReadGrant(entry.Grant)
		if err != nil || grant.Worker == c.id && b.leases.holds(&grant) {
			return grant, err
		}
	}
	return b.signatures.VerifyGrant(entry.Grant, b.Public())
}
