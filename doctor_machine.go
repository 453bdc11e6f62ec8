package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/cocoon-network/cocoon/enclave/attest"
	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits below which the machine checks warn.
const (
	// needMemory is what the whole network of `cocoon up` takes at its peak, in bytes.
	needMemory = 3 << 29
	// needDisk is the room for a day of `cocoon up` under light use, in bytes.
	needDisk = 2 << 30
	// slowFsync is the 99th percentile of an fsync above which receipts and jobs wait for the disk.
	slowFsync = 20 * time.Millisecond
)

// machineChecks look at this machine only.
func machineChecks(o doctorOptions) []check {
	return []check{
		{"processor", func(context.Context) finding { return checkCPU() }},
		{"engine build", func(context.Context) finding { return checkEngineBuild() }},
		{"memory", func(context.Context) finding { return checkMemory("/proc/meminfo") }},
		{"data folder", func(context.Context) finding { return checkData(o.Data) }},
		{"disk sync", func(ctx context.Context) finding { return checkSync(ctx, o.Data) }},
		{"Intel TDX", func(context.Context) finding { return checkTDX("/") }},
		{"confidential GPU", checkGPU},
	}
}

// fastCPU reports whether the processor can run kernels built for x86-64-v3.
func fastCPU() bool { return cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasBMI2 }

// checkCPU names the processor and its vector units.
func checkCPU() finding {
	if runtime.GOARCH != "amd64" {
		return ok("%d cores, %s", runtime.NumCPU(), runtime.GOARCH)
	}
	if !fastCPU() {
		return warn("expect the embedded engine to be slow; build it without -march flags", "%d cores without AVX2 and FMA", runtime.NumCPU())
	}
	return ok("%d cores with AVX2 and FMA", runtime.NumCPU())
}

// checkEngineBuild says whether the engine uses what the processor has.
func checkEngineBuild() finding {
	build := engineBuild()
	if strings.Contains(build, "slow") && !fastCPU() {
		return warn("run the embedded engine on a processor with AVX2, or use an engine elsewhere: cocoon worker --engine URL", "%s", build)
	}
	return ok("%s", build)
}

// checkMemory reads what the kernel calls available.
func checkMemory(meminfo string) finding {
	available, err := availableMemory(meminfo)
	if err != nil {
		return notApplicable("cannot tell: %v", err)
	}
	if available < needMemory {
		return warn("free some memory or use a smaller model", "%d MiB available, `cocoon up` may need %d MiB", available>>20, needMemory>>20)
	}
	return ok("%d MiB available", available>>20)
}

// availableMemory parses MemAvailable of a meminfo file into bytes.
func availableMemory(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "MemAvailable:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no MemAvailable line")
}

// existingParent is the nearest folder above path that exists.
func existingParent(path string) string {
	for path != filepath.Dir(path) {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			break
		}
		path = filepath.Dir(path)
	}
	return path
}

// checkData tries to write where the state would live.
func checkData(dir string) finding {
	parent := existingParent(dir)
	f, err := os.CreateTemp(parent, ".cocoon-doctor-*")
	if err != nil {
		return fail("choose another folder with --data, or change its permissions", "%s is not writable: %v", parent, err)
	}
	f.Close()
	os.Remove(f.Name())
	free, err := freeDisk(parent)
	switch {
	case err != nil:
		return ok("%s is writable", dir)
	case free < needDisk:
		return warn("free some disk or choose another folder with --data", "%s has %d MiB free", dir, free>>20)
	}
	return ok("%s is writable, %d GiB free", dir, free>>30)
}

// checkSync measures what one durable commit costs on this disk.
func checkSync(ctx context.Context, dir string) finding {
	f, err := os.CreateTemp(existingParent(dir), ".cocoon-doctor-*")
	if err != nil {
		return notApplicable("no writable folder")
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const rounds = 64
	block := make([]byte, 4096)
	took := make([]time.Duration, 0, rounds)
	for range rounds {
		if ctx.Err() != nil {
			return warn("use a local disk for --data", "64 writes of 4 KiB did not finish within %s", checkTimeout)
		}
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return fail("choose another disk with --data", "write: %v", err)
		}
		if err := f.Sync(); err != nil {
			return fail("choose another disk with --data", "fsync: %v", err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	p50, p99 := took[rounds/2], took[rounds-1]
	if p99 > slowFsync {
		return warn("use a local SSD for --data; settlement and --sync always wait for this disk", "fsync p50 %s, worst of 64 %s", p50.Round(time.Microsecond), p99.Round(time.Microsecond))
	}
	return ok("fsync p50 %s, worst of 64 %s", p50.Round(time.Microsecond), p99.Round(time.Microsecond))
}

// checkTDX looks for the interfaces through which a trust domain gets its quotes.
func checkTDX(root string) finding {
	for _, path := range []string{"sys/kernel/config/tsm/report", "dev/tdx_guest"} {
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			return ok("inside a trust domain (/%s)", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return warn("run as a user who may read it", "/%s: %v", path, err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "sys/module/kvm_intel/parameters/tdx")); err == nil {
		return notApplicable("a TDX host, but not inside a trust domain: launch the worker image with deploy/tdx")
	}
	return notApplicable("not inside a trust domain: a worker here can only be simulated")
}

// defaultDataDir is the user's data folder for Cocoon.
func defaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "cocoon")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("cocoon-%d", os.Getuid()))
	}
	return filepath.Join(home, ".local", "share", "cocoon")
}

// checkGPU says for every GPU whether it can keep a secret, and why not.
func checkGPU(context.Context) finding {
	var library nvidia.Library // stays nil in builds without NVML: the probe then reads the driver's files
	switch nvml, err := nvidia.Open(); {
	case err == nil:
		defer nvml.Close()
		library = nvml
	case !errors.Is(err, schemas.KindUnsupported):
		return warn("check the NVIDIA driver", "%v", err)
	}
	found, err := nvidia.Probe(library, os.DirFS("/"))
	if err != nil {
		return warn("check the NVIDIA driver", "%v", err)
	}
	if len(found) == 0 {
		return notApplicable("no NVIDIA GPU in this machine")
	}
	for _, g := range found {
		if !g.Ready {
			f := notApplicable("%s: a worker with it would be refused", g.Reason)
			f.Fix = attest.Advice(g.Err)
			return f
		}
	}
	return ok("%d × %s, ready to attest", len(found), found[0].Name)
}
