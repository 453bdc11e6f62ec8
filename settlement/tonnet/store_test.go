package tonnet

// runCrashChild is replaced below.
func runCrashChild() bool { return false }
