package fleet_test

import (
	"fmt"

	"github.com/cocoon-network/cocoon/consumers/fleet"
)

// How many workers a host wants for a model: enough slots for what waits and runs, less what other hosts offer.
func ExampleDemand_Want() {
	d := fleet.Demand{Waiting: 100, Held: 20, Slots: 16, Min: 0, Max: 10}
	fmt.Println("alone:", d.Want())
	d.Others = 64
	fmt.Println("beside four workers elsewhere:", d.Want())
	d.Waiting, d.Held = 0, 0
	fmt.Println("nothing to do:", d.Want())
	// Output:
	// alone: 8
	// beside four workers elsewhere: 4
	// nothing to do: 0
}
