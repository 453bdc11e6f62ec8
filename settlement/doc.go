// Package settlement turns receipts into money: it books what jobs cost, takes deposits, and pays worker owners on TON,
// each of them exactly once.
//
// Start with [OpenLedger], the double-entry book in SQL that everything else works on. Four services keep it going; each
// is a struct config, New… and a blocking Run(ctx), and each can be killed at any instruction and started again:
//
//   - [Intake] reads the network's outcomes in order, verifies receipt and grant, prices the usage and books it.
//   - [CreditPublisher] tells the brokers what each tenant may still spend.
//   - [Payer] turns what is owed into signed payout batches, sends them, and judges them from proven chain history. The
//     same history brings deposits, which it credits to tenants by memo.
//   - [Deposits] does that for a second wallet, where an operator keeps deposits under a key that is not here.
//
// [Ledger.PayoutStatement] and [Ledger.Proof] let anybody check what a payout paid for; [Reconcile] rebuilds the truth from chain
// and streams and names every difference to the ledger.
//
// Invariants, each with a test that tries to break it:
//
//   - The sum of all postings is zero, and so is the sum of every single entry. Postings are never changed or deleted;
//     the database refuses it.
//   - A job is booked at most once, and never above the ceiling that its tenant authorised.
//   - Money leaves only in batches whose signed bytes, items and statement root were durable before the first send. The
//     same bytes are sent again and again; a new batch for the same money is made only after chain time proves that the
//     old one can never run.
//   - What was paid is read item by item from proven history, never from a send's answer and never from "processed?".
//   - An unknown payment from our wallet stops all payouts until a person looked ([ErrStopped]).
//   - Positions are stored in the same commit as what they caused: the outcome stream's sequence with the postings, the
//     wallet's (lt, hash) cursor with the deposits and payouts read there. A ledger restored from an old copy therefore
//     reads what it missed again, and batches it forgot come back from the [Journal] before anything new is signed.
//
// The package opens nothing sealed and holds no key but the treasury's, which stays behind [Treasury]. It knows NATS and
// TON only as the small interfaces [Feed], [CreditStore], [Journal], [Wallet] and [Treasury].
package settlement
