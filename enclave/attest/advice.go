package attest

import (
	"errors"
	"regexp"

	"github.com/cocoon-network/cocoon/schemas"
)

// advice says, for the operator of the refused machine, what to do about each reason. A reason is the field of a refusal with
// its numbers and names left out. A test reads the reasons from the source of the verifiers: one without advice fails it.
var advice = []struct {
	do      string
	reasons []string
}{
	{"have the network's owner sign and publish a policy that is in force: cocoon policy show says until when the last one was, cocoon policy publish renews it", []string{"policy"}},
	{"the policy itself is wrong; tell the network's owner: cocoon policy verify names the field", []string{"version", "simulated", "simulated.tdx", "roots"}},
	{"this machine is not of the environment that the policy is for: join the network with a policy of yours (simulated for development), or use hardware with Intel's certificates", []string{"quote.root"}},
	{"the quote is damaged or is no TDX quote of version 4: take it again inside the trust domain, and check that the guest's kernel is 6.7 or later", []string{"quote", "quote.header", "quote.certification"}},
	{"the quoting service of the host made a quote that does not verify: restart qgsd and register the machine again (PCKIDRetrievalTool), or have Intel's certificate replaced when it is revoked", []string{"quote.chain", "quote.qe", "quote.signature"}},
	{"Intel's documents are missing, too old or not for this machine: let the broker reach api.trustedservices.intel.com or a PCCS, and set the clock", []string{"collateral", "collateral.*"}},
	{"install the BIOS update of the machine's vendor with the newest microcode, then register the machine again; or the policy must accept this status", []string{"tcb.platform"}},
	{"install the newest TDX module (it comes with the BIOS or the kernel's firmware package), then start the host again", []string{"tcb.module", "td.module"}},
	{"update the host's DCAP packages (the quoting enclave is one of them), then restart qgsd", []string{"tcb.qe"}},
	{"the collateral is older than the policy demands: let the broker fetch it again; a rolled-back cache looks like this too", []string{"tcb.evaluation"}},
	{"the state is known to be safe only up to a date that is too far back: install the newest BIOS and TDX module", []string{"tcb.date"}},
	{"start the trust domain without debug and with the attributes of deploy/tdx/launch.sh: nothing else is admitted", []string{"td.attributes", "td.xfam"}},
	{"this machine is blocked or not on the policy's list: send its id to the network's owner, cocoon policy add machine puts it on the list", []string{"td.ppid"}},
	{"the claims are not those that the quote binds: start the worker again; when it happens twice, something between it and the broker changes bytes", []string{"claims", "claims.*"}},
	{"the evidence answers an older challenge: start the worker again and look for a proxy that repeats messages", []string{"nonce", "token"}},
	{"the evidence is over: set the clock of the machine; a worker attests again by itself", []string{"claims.expires", "expires"}},
	{"this image may not have this role, or not any more: start the image that the policy admits for it (cocoon policy show), or ask for an entry", []string{"claims.role", "role"}},
	{"build the worker image of the release again and compare: cocoon attest measure computes what it must be, cocoon policy diff shows what differs", []string{
		"image", "image.*",
	}},
	{"the host's launch options set an identity that the policy does not name: start the trust domain with deploy/tdx/launch.sh as it is", []string{
		"image.mrconfigid", "image.mrowner", "image.mrownerconfig",
	}},
	{"the configuration volume is not an admitted one: make it again with the options of the policy's entry, or have its hash added: cocoon policy add config", []string{"log.config"}},
	{"something was measured that should not run there: start the machine again from the release's image; do not trust it before it is explained", []string{"log", "log[]*"}},
	{"the image was built for another network: its configuration names other root keys", []string{"log.policy-root"}},
	{"the model is not admitted by policy and catalogue: serve one that is (cocoon models ls), or have it published first", []string{"models"}},
	{"give the machine as many GPUs as the policy's entry for the image demands, all of them passed through", []string{"gpus"}},
	{"the GPU did not answer: check the driver (nvidia-smi inside the guest) and that it is in ready state (nvidia-smi conf-compute -srs 1)", []string{"gpus[]"}},
	{"build with cgo and -tags nvml: this program then asks the GPU", []string{"gpus[].unasked"}},
	{"this GPU cannot keep a secret from its host: use one with confidential computing (H100, H200, B200, RTX PRO 6000 Blackwell Server); or join a simulated network with it", []string{"gpus[].capable"}},
	{"turn confidential computing on from the host (nvtrust: nvidia_gpu_tools.py --set-cc-mode=on --reset-after-cc-mode-switch), then start the guest again", []string{"gpus[].cc"}},
	{"leave the development mode: set CC mode to on from the host and start the guest again", []string{"gpus[].devtools", "gpus[].simulated"}},
	{"this kind of GPU is not in the policy: use an admitted one, or ask for its golden values to be added", []string{"gpus[].architecture"}},
	{"the policy blocks this very GPU: ask the network's owner why", []string{"gpus[].id"}},
	{"let the machine reach ocsp.ndis.nvidia.com so that it can show fresh answers; a revoked certificate means that the GPU must be replaced", []string{"gpus[].ocsp"}},
	{"install a driver and VBIOS that the policy names (cocoon policy show), or ask for the golden values of this pair: cocoon policy add gpu", []string{"gpus[].golden"}},
	{"the GPU's report does not verify: reset the GPU, start the guest again and update the driver; a relayed or altered report looks like this too", []string{
		"gpus[].report", "gpus[].report.*",
	}},
	{"the GPU's certificates are not NVIDIA's, or are out of date: set the clock, update driver and VBIOS", []string{"gpus[].chain", "gpus[].chain.*"}},
}

// variable is the part of a field that is not part of the reason.
var variable = regexp.MustCompile(`\[\d+\]`)

// Reason is the reason of a refusal without its numbers: "gpus[3].ocsp" is refused for "gpus[].ocsp".
func Reason(err error) string {
	var e *schemas.Error
	if !errors.As(err, &e) {
		return ""
	}
	return variable.ReplaceAllString(e.Field, "[]")
}

// Advice says what the operator of a refused machine can do about a refusal of a verifier, "" when nothing is known.
func Advice(err error) string { return adviceFor(Reason(err)) }

// adviceFor finds the advice for a reason: its own, or that for everything below its parent.
func adviceFor(reason string) string {
	below := ""
	for _, a := range advice {
		for _, r := range a.reasons {
			if r == reason {
				return a.do
			}
			if n := len(r) - 1; r[n] == '*' && len(reason) >= n && reason[:n] == r[:n] {
				below = a.do
			}
		}
	}
	return below
}
