package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// workersTable is `workers ls` for people.
func workersTable(views []WorkerView) cli.Table {
	t := cli.Table{Header: []string{"WORKER", "HOST", "STATE", "MODELS", "BUSY", "TOK/S", "ASK", "DONE", "FAILED", "STANDING", "ENVIRONMENT"}}
	for _, v := range views {
		busy, slots, speed := load(v.Models)
		t.Rows = append(t.Rows, []string{
			string(v.Worker), dash(v.Host), stateOf(v), modelNames(v.Models), fmt.Sprintf("%d/%d", busy, slots),
			strconv.FormatFloat(speed, 'f', 0, 64), askOf(v), strconv.FormatUint(v.Done, 10), strconv.FormatUint(v.Failed, 10),
			standingOf(v), string(v.Environment),
		})
	}
	return t
}

// ordersTable is what the ordering verbs print for people.
func ordersTable(views []WorkerView) cli.Table {
	t := cli.Table{Header: []string{"WORKER", "HOST", "STATE", "ORDER"}}
	for _, v := range views {
		t.Rows = append(t.Rows, []string{string(v.Worker), dash(v.Host), stateOf(v), orderOf(v)})
	}
	return t
}

// workerLines is `workers show` for people.
func workerLines(v WorkerView) [][2]string {
	busy, slots, speed := load(v.Models)
	lines := [][2]string{
		{"worker", string(v.Worker)},
		{"owner", string(v.Owner)},
		{"host", dash(v.Host)},
		{"version", dash(v.Version)},
		{"environment", string(v.Environment)},
		{"state", stateOf(v)},
		{"order", orderOf(v)},
		{"ask", askOf(v)},
		{"busy", fmt.Sprintf("%d of %d slots", busy, slots)},
		{"speed", fmt.Sprintf("%.0f tokens/s", speed)},
		{"outcomes", fmt.Sprintf("%d done, %d failed", v.Done, v.Failed)},
		{"started", v.Started.UTC().Format(time.RFC3339)},
		{"attested until", timeOf(v.AttestedUntil)},
		{"standing", standingOf(v)},
	}
	for _, m := range v.Models {
		lines = append(lines, [2]string{"model", fmt.Sprintf("%s: %d of %d slots busy", m.Model, m.Busy, m.Slots)})
	}
	for _, g := range v.GPUs {
		lines = append(lines, [2]string{"gpu", gpuLine(g)})
	}
	if v.Reputation != nil {
		for _, w := range v.Reputation.Windows {
			lines = append(lines, [2]string{"last " + w.Span.String(), fmt.Sprintf(
				"%.2f %% of %d succeeded, %d lost, median %v", float64(w.Rate())/100, w.Succeeded+w.Failed+w.Lost, w.Lost, w.Median.Round(time.Millisecond))})
		}
	}
	return lines
}

// gpuLine describes a GPU.
func gpuLine(g streams.WorkerGPU) string {
	line := fmt.Sprintf("%s: %d %%", g.Name, g.Utilisation)
	if g.MemoryTotal > 0 {
		line += fmt.Sprintf(", %d of %d MiB", g.MemoryUsed>>20, g.MemoryTotal>>20)
	}
	if g.CC != "" {
		line += ", confidential computing " + g.CC
	}
	return line
}

// load sums up the models of a worker.
func load(models []streams.WorkerModel) (busy, slots int, speed float64) {
	for _, m := range models {
		busy, slots, speed = busy+m.Busy, slots+m.Slots, speed+m.TokensPerSecond
	}
	return busy, slots, speed
}

// modelNames lists the models without their roots.
func modelNames(models []streams.WorkerModel) string {
	names := make([]string, len(models))
	for i, m := range models {
		names[i], _, _ = strings.Cut(string(m.Model), ":")
	}
	return strings.Join(names, ",")
}

// stateOf is the state with its reason.
func stateOf(v WorkerView) string {
	if v.Reason == "" {
		return string(v.State)
	}
	return string(v.State) + " (" + v.Reason + ")"
}

// orderOf is what a worker was told.
func orderOf(v WorkerView) string {
	if v.Order == nil {
		return "-"
	}
	var parts []string
	if v.Order.Drain {
		parts = append(parts, "drain")
	}
	if v.Order.Disabled {
		parts = append(parts, "disabled")
	}
	if v.Order.Ask > 0 {
		parts = append(parts, "ask "+Multiplier(v.Order.Ask))
	}
	return dash(strings.Join(parts, ", "))
}

// askOf is the ask for people.
func askOf(v WorkerView) string {
	if v.Ask == 0 {
		return "any"
	}
	return Multiplier(v.Ask)
}

// standingOf is what control thinks.
func standingOf(v WorkerView) string {
	if v.Reputation == nil {
		return "-"
	}
	return string(v.Reputation.Standing)
}

// timeOf spells a time that may not be known.
func timeOf(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// dash stands for nothing.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
