package streams

import "errors"

// ErrMissed tells the reader of a [Feed] that messages may have been lost.
var ErrMissed = errors.New("streams: messages were missed")

// ErrLeaseLost tells that the lease of a delivery has lapsed: another worker may hold the job now.
var ErrLeaseLost = errors.New("streams: the lease has lapsed")
