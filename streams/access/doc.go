// Package access holds what each role of the network may do at the NATS server: one table per role, as code. The
// configuration files in deploy/nats are generated from it, the callout service issues its users from it, and the tests
// run every denial against a real server.
//
// Start with a role ([Producer], [Worker], [Broker], [Settler], [Control], [Operator], [Dashboard]), which gives its
// [Permissions], or with a whole server configuration: [Development] puts all roles into one account, [Production] gives
// the services, the workers and every tenant an account of their own.
//
// Why accounts: a user who may ask the server anything can name any subject of its account as the reply, and the server
// answers there with its own rights. In one account a tenant can so put messages into another's queue; signatures
// and seals keep that harmless, but it is noise at best. Across accounts such a reply goes nowhere.
//
// Rules that hold for every table:
//
//   - Only trusted services may create consumers, never a tenant or a worker: with a consumer comes the right to name a
//     subject to which the server delivers.
//   - Nobody but the trusted services may read a stream of tenants' messages by position or list its subjects.
//   - Wildcards in NATS stand for whole tokens, so a right for one tenant, model or worker names it as a token.
//   - Every user has an inbox prefix of its own and may subscribe to no other.
//   - No role may delete a stream or purge one, but for the operator and the weights.
package access
