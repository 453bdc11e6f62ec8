package nvidia_test

import (
	"fmt"
	"testing/fstest"

	"github.com/cocoon-network/cocoon/enclave/nvidia"
)

// What a machine's driver says about its GPUs tells which of them can never keep a secret.
func ExampleProbe() {
	root := fstest.MapFS{"proc/driver/nvidia/gpus/0000:01:00.0/information": {Data: []byte("Model: NVIDIA GeForce RTX 4090\n")}}
	findings, err := nvidia.Probe(nil, root)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(findings[0].Ready, findings[0].Reason)
	// Output: false GPU NVIDIA GeForce RTX 4090: no confidential computing
}
