// Package control is the operator's service beside the streams: it creates queues on demand, ends jobs that expired, were
// cancelled or died, and says what waits and who works. It holds no secrets.
package control

import (
	"context"
	"log/slog"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// Options of a control service.
type Options struct {
	// Verify checks the signatures of an outcome's grant and receipt (receipt may be empty) and returns them; without it
	// there is no reputation.
	Verify func(grant, receipt string) (schemas.Grant, schemas.Receipt, error)
	// Floor is the policy's lowest success rate; a worker below it is put on probation. nil means none.
	Floor func() schemas.BasisPoints
	// Logger is optional.
	Logger *slog.Logger
}

// Service is a control service. Several may run at the same time, and each may be killed at any time.
type Service struct{}

// New prepares a control service.
func New(bus *streams.Bus, o Options) *Service { panic("unfinished") }

// Run serves until ctx ends.
func (s *Service) Run(ctx context.Context) error { panic("unfinished") }
