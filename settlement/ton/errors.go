package ton

import (
	"errors"

	"github.com/cocoon-network/cocoon/schemas"
)

// Sentinels. Each comes wrapped in a schemas.Error whose kind says whether to retry.
var (
	// ErrUnproven says that a liteserver's answer was not what the trusted block commits to: the server lies or is
	// broken. Kind unavailable: another server may answer. Worth an alert.
	ErrUnproven = errors.New("ton: answer is not proven")
	// ErrStale says that a liteserver is behind what this process, or the caller's cursor, has seen. Kind unavailable.
	ErrStale = errors.New("ton: liteserver is behind")
	// ErrPruned says that a liteserver no longer has the history that was asked for; an archive server has. Kind
	// unavailable.
	ErrPruned = errors.New("ton: history is no longer kept")
	// ErrCursor says that a cursor is not in the history of the account: it belongs to another account or network, or to
	// a chain that was restored. Kind corrupt: stop and look.
	ErrCursor = errors.New("ton: cursor is not in the account's history")
)

// unavailable wraps a failure to get an answer; doing the same again can help.
func unavailable(format string, args ...any) error {
	return schemas.Errorf(schemas.KindUnavailable, "ton: "+format, args...)
}
