package streams

import "context"

// Backlogs asks control what waits, sorted by route and class. The answer is at most a few seconds old.
func (b *Bus) Backlogs(ctx context.Context) ([]Backlog, error) { panic("unfinished") }
