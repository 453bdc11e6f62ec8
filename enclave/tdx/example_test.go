package tdx_test

import (
	"fmt"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/cocoon-network/cocoon/enclave/tdx"
)

// A quote can be looked at without believing it: here one that real hardware signed, padded by the service it came from.
func ExampleReadRegisters() {
	quote := tdx.Trim(testdata.RawQuote)
	registers, err := tdx.ReadRegisters(quote)
	if err != nil {
		fmt.Println(err)
		return
	}
	name, root, err := tdx.ParseRoot(quote)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("debug:", registers.Debug())
	fmt.Println(name, root == tdx.IntelRoot)
	// Output:
	// debug: false
	// Intel SGX Root CA, Intel Corporation true
}
