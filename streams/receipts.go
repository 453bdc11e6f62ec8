package streams

import (
	"context"
	"time"
)

// Receipt is the header of one stored outcome, without its body.
type Receipt struct {
	// Seq is its position in the outcome stream.
	Seq uint64
	// Stored is when the stream stored it, by the server's clock.
	Stored time.Time
	// Header is parsed with schemas.ParseOutcome(header, nil).
	Header map[string][]string
}

// ReceiptFeed reads outcomes in the order in which they were stored. One goroutine uses it.
type ReceiptFeed struct{}

// Receipts opens a feed of all outcomes. It keeps no position: the reader says with every call how far it has come, and
// stores that together with what it made of it.
func (b *Bus) Receipts() *ReceiptFeed { panic("unfinished") }

// Read returns up to limit (at most 5,000) outcomes with positions above after, in order and without a hole. It waits
// for the first one until ctx ends, not for a full batch. When outcomes above after have left the stream by age, so
// that a hole cannot be avoided, the error is KindCorrupt.
func (f *ReceiptFeed) Read(ctx context.Context, after uint64, limit int) ([]Receipt, error) {
	panic("unfinished")
}

// State says what the stream holds now.
func (f *ReceiptFeed) State(ctx context.Context) (ReceiptState, error) { panic("unfinished") }

// Close frees the feed's consumer.
func (f *ReceiptFeed) Close() { panic("unfinished") }

// ReceiptState is the state of the outcome stream.
type ReceiptState struct {
	// First and Last are the lowest and highest position; First > Last when it is empty.
	First, Last uint64
	// Created identifies the stream: a stream that was made anew counts from 1 again.
	Created time.Time
}
