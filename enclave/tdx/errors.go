package tdx

import (
	"errors"
	"fmt"

	"github.com/cocoon-network/cocoon/schemas"
)

// refuse is a KindAttestation error that names the part which did not verify.
func refuse(field, format string, args ...any) error {
	return &schemas.Error{Kind: schemas.KindAttestation, Field: field, Message: fmt.Sprintf(format, args...)}
}

// because is refuse with the cause kept.
func because(field string, err error) error {
	var own *schemas.Error
	if errors.As(err, &own) {
		return own
	}
	return &schemas.Error{Kind: schemas.KindAttestation, Field: field, Message: err.Error(), Err: err}
}
