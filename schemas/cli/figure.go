package cli

import (
	"fmt"
	"strconv"
)

// Figure is one measured number of a benchmark, beside the goal that it should reach.
type Figure struct {
	// Name is snake_case and stable; Unit is "ratio", "1/s", "ms", "bytes", "cpu_seconds", …
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
	// Goal is a comparison such as ">=0.70", empty for a figure that is only reported.
	Goal string `json:"goal,omitempty"`
	// OK tells whether the goal was reached; true when there is none.
	OK bool `json:"ok"`
}

// AtLeast is a figure whose goal is a lower bound.
func AtLeast(name, unit string, value, goal float64) Figure {
	return Figure{Name: name, Unit: unit, Value: value, Goal: ">=" + number(goal), OK: value >= goal}
}

// AtMost is a figure whose goal is an upper bound.
func AtMost(name, unit string, value, goal float64) Figure {
	return Figure{Name: name, Unit: unit, Value: value, Goal: "<=" + number(goal), OK: value <= goal}
}

// Reported is a figure without a goal: a floor, a size, a count.
func Reported(name, unit string, value float64) Figure {
	return Figure{Name: name, Unit: unit, Value: value, OK: true}
}

// BenchResult is what one benchmark prints.
type BenchResult struct {
	// Bench is the benchmark's name: seal, broker, pipeline, engine, settle, gateway, batch or dashboard.
	Bench string `json:"bench"`
	// Figures are in the order in which they make sense.
	Figures []Figure `json:"figures"`
	// Notes say under what conditions the figures hold: machine, sizes, what was left out by --quick.
	Notes []string `json:"notes,omitempty"`
}

// FigureTable is the view of results for people.
func FigureTable(results []BenchResult) Table {
	t := Table{Header: []string{"BENCH", "FIGURE", "VALUE", "UNIT", "GOAL", "REACHED"}}
	for _, r := range results {
		for _, f := range r.Figures {
			reached := "yes"
			switch {
			case f.Goal == "":
				reached = ""
			case !f.OK:
				reached = "NO"
			}
			t.Rows = append(t.Rows, []string{r.Bench, f.Name, number(f.Value), f.Unit, f.Goal, reached})
		}
		for _, note := range r.Notes {
			t.Rows = append(t.Rows, []string{r.Bench, "note: " + note})
		}
	}
	return t
}

// number prints a figure with four significant digits, large ones whole.
func number(v float64) string {
	if v >= 1000 || v <= -1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
