package nvidia

// Vitals is how one GPU is doing. It is for people and for a worker's own guard; nothing of it is attested.
type Vitals struct {
	// Name is the product name.
	Name string `json:"name"`
	// CC says how confidential computing is set: "on", "off", "devtools" or "none".
	CC string `json:"cc"`
	// MemoryUsed and MemoryTotal are in bytes.
	MemoryUsed  uint64 `json:"memory_used"`
	MemoryTotal uint64 `json:"memory_total"`
	// Utilisation is the share of time in which it computed, in percent.
	Utilisation int `json:"utilisation"`
	// Fault says why it should not be used; empty when it is healthy.
	Fault string `json:"fault,omitempty"`
}

// mode is the word for a machine's confidential computing settings.
func (s State) mode() string {
	switch {
	case !s.Capable:
		return "none"
	case !s.Enabled:
		return "off"
	case s.DevTools:
		return "devtools"
	}
	return "on"
}
