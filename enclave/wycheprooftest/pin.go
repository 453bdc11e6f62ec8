//go:build wycheproof_pin

package wycheprooftest

// The import is never compiled; it keeps the module in go.mod, whose version and checksum the tests rely on.
import _ "github.com/c2sp/wycheproof"
