package ton

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Hash is the representation hash of a cell: of a transaction, a message body or a block.
type Hash [32]byte

// String is the hash in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Cursor is a place in an account's history: the logical time and the hash of one transaction. The zero value lies
// before the first transaction. Logical times grow along an account's history.
type Cursor struct {
	LT   uint64
	Hash Hash
}

// IsZero reports whether the cursor lies before the first transaction.
func (c Cursor) IsZero() bool { return c == Cursor{} }

// String is "<lt>:<hash in hex>", the form in which cursors are stored; the zero cursor is the empty string.
func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	return strconv.FormatUint(c.LT, 10) + ":" + c.Hash.String()
}

// ParseCursor is the inverse of String and refuses every other spelling.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	lt, digits, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(lt, 10, 64)
	b, hexErr := hex.DecodeString(digits)
	if err != nil || hexErr != nil || len(b) != len(Hash{}) {
		return Cursor{}, schemas.FieldError("cursor", "must be <lt>:<64 hex digits>")
	}
	c := Cursor{LT: n, Hash: Hash(b)}
	if c.String() != s {
		return Cursor{}, schemas.FieldError("cursor", "is not in its canonical form")
	}
	return c, nil
}

// BlockTime is a proven masterchain block: the chain's clock.
type BlockTime struct {
	// Seqno counts masterchain blocks.
	Seqno uint32
	// Time is when validators made the block, in UTC with whole seconds.
	Time time.Time
}

// State is an account as of one proven masterchain block.
type State struct {
	// At is the block.
	At BlockTime
	// Balance is 0 for accounts that do not exist.
	Balance schemas.NanoTON
	// Deployed says that the account has code. A batch to a wallet without must be signed with Deploy.
	Deployed bool
	// Last is the newest transaction, zero when there is none.
	Last Cursor
}
