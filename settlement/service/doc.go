// Package service runs settlement on a bus: it connects the services of package settlement to the streams and buckets
// of a network, and keeps the prices and broker keys that receipts are judged by.
//
// Start with [Run], which runs everything until its context ends: [Library], intake, credit, and, where there is a chain,
// deposits and payouts. [NewFeed], [NewJournal] and [NewCreditStore] are the adapters for programs that assemble
// their own.
//
// Rules:
//
//   - Nothing published on the bus is believed because it was published. A catalogue counts when K root keys signed it, a
//     broker's key when the evidence beside it verifies under the policy in force. Both are then kept in the ledger for
//     good, because receipts may be booked long after the document or the broker is gone.
//   - A receipt is refused for an unknown key or price book only after the buckets were read again.
//   - One part that fails ends Run with its error; the others are stopped first. All parts pick up where they were, so the
//     caller may simply call Run again. The chain being away is not a failure: payouts and deposits wait by themselves.
package service
