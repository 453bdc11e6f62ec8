package consumers

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
)

// HostMemory is the Gauge of main memory: the control group's limit where there is one, else what /proc/meminfo calls
// available. On systems without these files everything is unknown.
type HostMemory struct{}

var _ Gauge = HostMemory{}

// Files of HostMemory.
const (
	memInfoFile     = "/proc/meminfo"
	groupLimitFile  = "/sys/fs/cgroup/memory.max"
	groupUsedFile   = "/sys/fs/cgroup/memory.current"
	groupStatFile   = "/sys/fs/cgroup/memory.stat"
	maxMemoryReport = 64 << 10
)

// Read implements Gauge.
func (HostMemory) Read(context.Context) (Vitals, error) {
	if v, ok := groupMemory(); ok {
		return v, nil
	}
	b, err := os.ReadFile(memInfoFile)
	if err != nil {
		return Vitals{}, nil // not Linux: unknown
	}
	return memInfo(b), nil
}

// groupMemory reads the limit of the control group; ok is false when there is none.
func groupMemory() (v Vitals, ok bool) {
	limit, ok := number(groupLimitFile)
	if !ok {
		return v, false // "max" or no such file
	}
	used, ok := number(groupUsedFile)
	if !ok {
		return v, false
	}
	stat, err := os.ReadFile(groupStatFile)
	if err != nil {
		return v, false
	}
	// Pages of files that nobody uses are given back before anything is killed.
	idle := field(stat, "inactive_file")
	return Vitals{MemoryUsed: used - min(used, idle), MemoryTotal: limit}, true
}

// number reads a file with one whole number.
func number(path string) (uint64, bool) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) > maxMemoryReport {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// memInfo reads /proc/meminfo, whose numbers are KiB.
func memInfo(b []byte) Vitals {
	total, available := field(b, "MemTotal:")*1024, field(b, "MemAvailable:")*1024
	return Vitals{MemoryUsed: total - min(total, available), MemoryTotal: total}
}

// field finds "name number" among lines; 0 when it is not there.
func field(b []byte, name string) uint64 {
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		if parts := strings.Fields(s.Text()); len(parts) >= 2 && parts[0] == name {
			n, _ := strconv.ParseUint(parts[1], 10, 64)
			return n
		}
	}
	return 0
}
