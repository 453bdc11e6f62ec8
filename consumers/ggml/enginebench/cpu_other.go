//go:build !unix

package enginebench

import "time"

// started is what wall time counts from.
var started = time.Now()

// processTime falls back to wall time where CPU time is not told.
func processTime() time.Duration { return time.Since(started) }
