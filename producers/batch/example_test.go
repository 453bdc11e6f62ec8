package batch_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/producers/producerstest"
)

// A file of requests is checked, submitted and answered; the results come in input order.
func ExampleRun() {
	producerstest.Example(func(ctx context.Context, n *producerstest.Network, t testing.TB) {
		n.Work(t, producerstest.Echo)
		client := n.Client(t)
		dir := t.TempDir()
		input := dir + "/lines.jsonl"
		if err := os.WriteFile(input, []byte(
			`{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"tiny","messages":[{"role":"user","content":"one"}],"max_tokens":8}}
{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"model":"tiny","messages":[{"role":"user","content":"two"}],"max_tokens":8}}
`), 0o600); err != nil {
			fmt.Println(err)
			return
		}
		// The folder remembers everything: called again, Run goes on where it stopped, and pays for nothing twice.
		summary, err := batch.Run(ctx, client, dir+"/batch", batch.Options{Input: input}, batch.RunOptions{})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(summary.State, summary.Completed, "of", summary.Total, "for", summary.Cost)
		b, err := batch.Read(dir + "/batch")
		if err != nil {
			fmt.Println(err)
			return
		}
		var out strings.Builder
		if _, err := b.WriteResults(&out, batch.InputOrder, batch.Succeeded); err != nil {
			fmt.Println(err)
			return
		}
		for line := range strings.Lines(out.String()) {
			fmt.Println(strings.Contains(line, "you said: "))
		}
	})
	// Output:
	// completed 2 of 2 for 0.00000003 TON
	// true
	// true
}

// Everything wrong with a file is named at once, with its line.
func ExampleValidate() {
	report, err := batch.Validate(context.Background(), strings.NewReader(
		`{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"tiny","messages":[]}}
{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"tiny","messages":[]}}
{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"model":"tiny","temperature":1e999}}
`), batch.Rules{}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, issue := range report.Issues {
		fmt.Println(issue.Code, issue.Line, issue.Param)
	}
	// Output:
	// duplicate_custom_id 2 custom_id
	// invalid_json_line 3 body.temperature
}
