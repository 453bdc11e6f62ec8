// Package chaintest is the conformance suite for networks that settlement pays on, and the devnet that its tests run on.
//
// Start with [New], which gives a test a devnet of its own on a clock of its own:
//
//	d := chaintest.New(t, chaintest.Options{ADNL: true})
//	chain := d.Connect(t)                      // the product's client, under the strictest proof policy
//	d.Fund(t, treasury.Address(), 100*schemas.TON)
//	d.Step(t, 5*time.Second)                   // time goes on, one block is made
//	d.Received(t, owner)                       // what arrived, from the network itself
//
// [Run] runs the suite on anything that is a [Backend]: it says what settlement relies on, from "a batch that was sent ten
// times pays once" to "a page that is not complete proves nothing". It runs on the devnet in process and over ADNL; a
// backend on a public test network would have to pass it too, with real waits in Step.
//
// The package imports testing and is for tests only.
package chaintest
