// Package ton is settlement's way to the TON blockchain: it reads one account's proven history, signs payout batches
// that can be sent any number of times and take effect at most once, and says which of their items were paid.
//
// Start with [Connect], which joins a network (mainnet, testnet or the devnet of package tonnet) named by its global
// config. [Chain.Account] reads any address. [Chain.Treasury] is an account whose key we hold: a highload wallet v3,
// which pays up to [MaxTransfers] owners with one message.
//
// The loop of a payer:
//
//	state, err := treasury.State(ctx)          // balance and chain time, proven
//	signed, err := treasury.Sign(batch)        // deterministic: the same batch gives the same bytes
//	// store batch, signed and the history cursor in one durable write, only then
//	_ = treasury.Send(ctx, signed.BoC)         // again and again; an error says nothing about the outcome
//	page, err := treasury.History(ctx, cursor, 0)
//	// Accepted and Executed in page.Events say what happened; treasury.Expired says what never will
//
// Rules that the package keeps:
//
//   - Every answer is proven under tonutils' Secure policy from a trusted block: a liteserver can refuse or lag, it
//     cannot invent, hide or reorder anything. Absence of an account is proven too.
//   - A [Chain] never goes back: each answer is as of a block at least as new as the block of any earlier answer.
//   - Time is the time of proven masterchain blocks, never the local clock.
//   - History is a chain of hashes from the proven last transaction down to the caller's [Cursor]. A cursor that is not
//     on that chain is an error, so there are no gaps and no forks.
//   - The payer is judged from history only. The wallet's "processed?" method also says yes for batches that paid
//     nobody, and is not offered.
//
// It refuses: batches above [MaxTransfers], two transfers to one address in a batch (they could not be told apart),
// query ids that the contract can never accept, and global configs without a trusted block.
package ton
