// Package wycheprooftest hands the cases of project Wycheproof (github.com/C2SP/wycheproof, Apache-2.0) to the tests of the
// code that calls a primitive: signatures, keys and ciphertexts made by others to be taken wrongly.
//
// The cases are a hundred megabytes, so they are not compiled in: go.mod pins their module and the go command fetches it when a
// test first asks.
package wycheprooftest
