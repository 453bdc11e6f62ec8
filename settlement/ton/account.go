package ton

import (
	"context"

	"github.com/cocoon-network/cocoon/schemas"
)

// Account reads one address.
type Account struct{}

// Address is the account's raw address.
func (a *Account) Address() schemas.Owner { panic("skeleton") }

// State proves the account's balance as of the newest block.
func (a *Account) State(ctx context.Context) (State, error) { panic("skeleton") }

// History returns up to limit transactions after the cursor, oldest first; limit 0 means DefaultPage.
func (a *Account) History(ctx context.Context, after Cursor, limit int) (Page, error) {
	panic("skeleton")
}
