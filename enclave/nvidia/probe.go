package nvidia

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/cocoon-network/cocoon/schemas"
)

// Finding is what can be said about one GPU of this machine without asking it to sign anything.
type Finding struct {
	// Name is the product name.
	Name string
	// Ready is true for a GPU that can attest itself now.
	Ready bool
	// Reason says why it cannot, empty when it can; Err is the refusal that a worker on this machine would meet.
	Reason string
	Err    error
}

// Probe looks at the GPUs of this machine. With a library it asks it; without one (lib is nil or not built) it reads the
// names from the driver's files below root, such as os.DirFS("/"). No GPU at all is an empty list.
func Probe(lib Library, root fs.FS) ([]Finding, error) {
	if lib == nil {
		return probeFiles(root)
	}
	devices, err := lib.Devices()
	if schemas.KindOf(err) == schemas.KindUnsupported {
		return probeFiles(root)
	}
	if err != nil {
		return nil, unavailable("gpus", err)
	}
	findings := make([]Finding, 0, len(devices))
	for _, device := range devices {
		name, err := device.Name()
		if err != nil {
			return nil, unavailable("gpus", err)
		}
		f := Finding{Name: name, Ready: true}
		if err := (&Collector{Library: lib}).ready([]Device{device}); err != nil {
			f.Ready, f.Reason, f.Err = false, reasonOf(err), err
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// reasonOf is the message of a refusal without kind and field.
func reasonOf(err error) string {
	var e *schemas.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// driverFolder is where the driver describes each GPU.
const driverFolder = "proc/driver/nvidia/gpus"

// maxInformation bounds one of the driver's description files.
const maxInformation = 16 << 10

// probeFiles reads the driver's description files.
func probeFiles(root fs.FS) ([]Finding, error) {
	entries, err := fs.ReadDir(root, driverFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable("gpus", err)
	}
	var findings []Finding
	for _, entry := range entries {
		text, err := fs.ReadFile(root, path.Join(driverFolder, entry.Name(), "information"))
		if err != nil {
			return nil, unavailable("gpus", err)
		}
		name := modelName(string(text[:min(len(text), maxInformation)]))
		findings = append(findings, staticFinding(name))
	}
	return findings, nil
}

// modelName finds "Model: NVIDIA H100 PCIe" in a description.
func modelName(text string) string {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "Model" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// confidentialChips are parts of the names of products that have confidential computing.
var confidentialChips = [...]string{"H100", "H200", "H800", "H20", "GH200", "B100", "B200", "B300", "GB200", "GB300", "RTX PRO 6000 Blackwell Server"}

// staticFinding is what a name alone tells.
func staticFinding(name string) Finding {
	err := refuse("gpus[0].capable", "GPU %s: no confidential computing", name)
	for _, chip := range confidentialChips {
		if strings.Contains(name, chip) {
			err = refuse("gpus[0].unasked", "GPU %s: may have confidential computing, but this build cannot ask it", name)
		}
	}
	return Finding{Name: name, Reason: reasonOf(err), Err: err}
}
