//go:build !linux && !worker

package cli

import "time"

// clockName says what benchClock counts.
const clockName = "wall time"

// benchClock is wall time where the system has no clock for a thread.
func benchClock() time.Duration { return time.Duration(time.Now().UnixNano()) }

// processClock is wall time too.
func processClock() time.Duration { return benchClock() }
