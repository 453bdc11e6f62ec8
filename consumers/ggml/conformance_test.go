package ggml

import (
	"testing"

	"github.com/cocoon-network/cocoon/consumers/enginetest"
)

// The question that the conformance suite asks the tiny model.
const (
	question = "Translate to French: the red cat sleeps"
	french   = "le chat rouge dort"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Subject {
		return enginetest.Subject{Engine: openTiny(t, Options{Slots: 4}), Question: question, Answer: french, Slots: 4}
	})
}
