// Package callout turns attestation into a log-in at the NATS server. Instead of a password a worker shows fresh evidence
// that is bound to the nonce of this one connection; the service asks a decision function about it and, if the answer is
// yes, issues a user that lives for minutes and may do what that worker needs, for the models that it may serve.
//
// Start with [New] and [Service.Run] on the side of the brokers, on a connection that logs in as the callout user of the
// configuration that access.Production makes. On the side of the worker, streams.Config.TokenFunc is called with the
// server's nonce for every connection: attest to [Nonce] of it and return the evidence as text.
//
// Tenants log in here too, with a pass (access.Pass): a statement of the issuer about their key. It needs no decision: the
// service puts its holder into the account of the tenant that it names, if the server's configuration has one.
//
// What is proven before the decision is asked: that the request comes from the server (it is signed by a server key and,
// with an xkey, sealed to us), and that the client holds the secret half of the NKey that the nonce is bound to. What the
// decision must prove: that the evidence is for exactly [Request.Nonce], and that the policy admits it.
//
// When the user expires the server ends the connection; the client library connects again by itself and so attests again.
// A tenant's does not expire.
// While no service answers nobody new gets in, and whoever is in stays until then.
//
// It refuses, with one and the same answer to the client and the reason in its own log: log-ins without a nonce, key or
// token, signatures that do not verify, tokens above [MaxToken], and everything the decision refuses.
package callout
