package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// Output prints a verb's result in the form the user asked for. Make one with [OutputFlags].
type Output struct {
	cmd    *cobra.Command
	format string
	json   bool
}

// OutputFlags adds -o/--output and --json to a verb.
func OutputFlags(cmd *cobra.Command) *Output {
	o := &Output{cmd: cmd}
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "output format: table, json or jsonl")
	cmd.Flags().BoolVar(&o.json, "json", false, "short for -o json")
	return o
}

// Format is "table", "json" or "jsonl"; anything else is a usage error.
func (o *Output) Format() (string, error) {
	if o.json {
		return "json", nil
	}
	switch o.format {
	case "table", "json", "jsonl":
		return o.format, nil
	}
	return "", Usagef("--output must be table, json or jsonl, not %q", o.format)
}

// Table is a view of rows: a header and one cell per column for each row.
type Table struct {
	Header []string
	Rows   [][]string
}

// List prints many values: json as one array, jsonl one value a line, table through view.
func List[T any](o *Output, values []T, view func([]T) Table) error {
	format, err := o.Format()
	if err != nil {
		return err
	}
	w := o.cmd.OutOrStdout()
	switch format {
	case "json":
		if values == nil {
			values = []T{} // an empty list is [], never null
		}
		return writeJSON(w, values)
	case "jsonl":
		enc := json.NewEncoder(w)
		for i := range values {
			if err := enc.Encode(values[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return view(values).Write(w)
}

// One prints one value: json and jsonl as they are, table as lines of "name  value".
func One[T any](o *Output, value T, view func(T) [][2]string) error {
	format, err := o.Format()
	if err != nil {
		return err
	}
	w := o.cmd.OutOrStdout()
	switch format {
	case "json":
		return writeJSON(w, value)
	case "jsonl":
		return json.NewEncoder(w).Encode(value)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range view(value) {
		fmt.Fprintf(tw, "%s\t%s\n", line[0], Clean(line[1]))
	}
	return tw.Flush()
}

// Write prints the table with aligned columns.
func (t Table) Write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.Header, "\t"))
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Clean(cell)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// writeJSON indents for people; programs do not mind.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Clean replaces control characters, so that a name from the network cannot steer the terminal.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}
