package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/openai"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
	"github.com/cocoon-network/cocoon/streams"
)

// closeWait bounds the farewell to the network.
const closeWait = 5 * time.Second

// JobCommand is `cocoon job`: one request at a time.
func JobCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "job",
		Short: "Submit single requests and look after them",
		Long: `Submit single requests, sealed for an attested worker, and look after them.

A submitted job is remembered in --state until it has a verified outcome, so another
process, or a later day, can ask for it.`,
		Example: `  cocoon job submit -m cocoon-tiny "What is the capital of France?"
  cocoon job submit -f request.json --wait=false
  cocoon job watch JOB`,
	}
	conn := connectionFlags(cmd)
	cmd.AddCommand(jobSubmit(conn), jobGet(conn), jobWatch(conn), jobCancel(conn), jobList(conn))
	return cmd
}

// jobView is a job as the verbs print it.
type jobView struct {
	Job         schemas.JobID       `json:"job"`
	State       producers.State     `json:"state"`
	Status      schemas.Status      `json:"status,omitempty"`
	Error       string              `json:"error,omitempty"`
	Model       schemas.ModelID     `json:"model,omitempty"`
	HTTP        int                 `json:"http,omitempty"`
	Text        string              `json:"text,omitempty"`
	Body        string              `json:"body,omitempty"`
	Usage       *schemas.Usage      `json:"usage,omitempty"`
	Charge      *schemas.Charge     `json:"charge,omitempty"`
	Worker      schemas.WorkerID    `json:"worker,omitempty"`
	Environment schemas.Environment `json:"environment,omitempty"`
	Receipt     string              `json:"receipt,omitempty"`
	Grant       string              `json:"grant,omitempty"`
}

// viewOf describes a job.
func viewOf(id schemas.JobID, state producers.State, a *producers.Answer, err error) jobView {
	v := jobView{Job: id, State: state}
	if err != nil {
		v.Error = err.Error()
	}
	if a == nil {
		return v
	}
	v.Status, v.Model, v.HTTP, v.Text, v.Body = a.Status, a.Model, a.HTTP, a.Text(), string(a.Body)
	v.Usage, v.Charge, v.Worker, v.Environment, v.Receipt, v.Grant = &a.Usage, &a.Charge, a.Worker, a.Environment, a.Receipt, a.Grant
	return v
}

// rows is the table of a job.
func (v jobView) rows() [][2]string {
	rows := [][2]string{{"job", string(v.Job)}, {"state", string(v.State)}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, [2]string{name, value})
		}
	}
	add("status", string(v.Status))
	add("error", v.Error)
	add("model", string(v.Model))
	add("answer", v.Text)
	if v.Usage != nil {
		add("tokens", fmt.Sprintf("%d prompt, %d cached, %d completion, %d reasoning", v.Usage.Prompt, v.Usage.Cached, v.Usage.Completion, v.Usage.Reasoning))
		add("cost", v.Charge.Total.String())
	}
	add("worker", string(v.Worker))
	add("environment", string(v.Environment))
	return rows
}

// print prints a job.
func (v jobView) print(out *cli.Output) error {
	return cli.One(out, v, jobView.rows)
}

// submitFlags are the flags of job submit.
type submitFlags struct {
	model, file, url, class, key, maxCost string
	maxTokens                             int
	timeout                               time.Duration
	wait, stream                          bool
}

// jobSubmit is `cocoon job submit`.
func jobSubmit(conn *connection) *cobra.Command {
	var o submitFlags
	cmd := &cobra.Command{
		Use:   "submit [PROMPT]",
		Short: "Submit one request and, unless told otherwise, wait for the answer",
		Long: `Submit one request and wait for the answer, which goes to standard output.

PROMPT makes a chat request with one user message; -f takes a whole request body as
OpenAI's API wants it ("-" reads it from standard input). With --key the same key is the
same job, however often it is submitted.`,
		Args: cobra.MaximumNArgs(1),
	}
	f := cmd.Flags()
	f.StringVarP(&o.model, "model", "m", "", "model: name, name@revision or full id; required with PROMPT")
	f.StringVarP(&o.file, "file", "f", "", "file with the request body; - is standard input")
	f.StringVar(&o.url, "url", openai.PathChat, "endpoint")
	f.StringVar(&o.class, "class", "", "priority, standard or batch (default: the body's service_tier, then standard)")
	f.StringVar(&o.key, "key", "", "idempotency key")
	f.StringVar(&o.maxCost, "max-cost", "", "the most it may cost, in TON (default: the worst case by the catalogue)")
	f.IntVar(&o.maxTokens, "max-tokens", 0, "the most tokens of the answer, with PROMPT")
	f.DurationVar(&o.timeout, "timeout", 0, "how long the answer is worth something (default 10m; 24h for class batch)")
	f.BoolVar(&o.wait, "wait", true, "wait for the answer")
	f.BoolVar(&o.stream, "stream", false, "print the text while it grows")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		j, err := o.job(cmd, args)
		if err != nil {
			return err
		}
		s, err := conn.open(cmd)
		if err != nil {
			return err
		}
		defer s.close(cmd)
		h, err := s.Submit(cmd.Context(), j)
		if err != nil {
			return err
		}
		switch {
		case !o.wait:
			return viewOf(h.ID, producers.StatePublished, nil, nil).print(out)
		case o.stream:
			return printStream(cmd, h)
		}
		a, err := h.Wait(cmd.Context())
		return finished(cmd, out, h.ID, a, err)
	}
	return cmd
}

// finished prints a job that has ended, or says how to come back to it after Ctrl-C.
func finished(cmd *cobra.Command, out *cli.Output, id schemas.JobID, a *producers.Answer, err error) error {
	if cmd.Context().Err() != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "detached; the job goes on. Take it up again with: cocoon job watch %s\n", id)
		return cmd.Context().Err()
	}
	if perr := viewOf(id, producers.StateDone, a, err).print(out); perr != nil {
		return perr
	}
	return err
}

// job is what the flags ask for.
func (o *submitFlags) job(cmd *cobra.Command, args []string) (j producers.Job, err error) {
	j = producers.Job{URL: o.url, Class: schemas.Class(o.class), IdempotencyKey: o.key, Timeout: o.timeout, Live: o.stream}
	if o.class != "" {
		if _, err := schemas.ParseClass(o.class); err != nil {
			return j, cli.Usagef("--class must be priority, standard or batch")
		}
	}
	if o.maxCost != "" {
		if j.MaxCost, err = schemas.ParseTON(o.maxCost); err != nil || j.MaxCost <= 0 {
			return j, cli.Usagef("--max-cost must be a positive amount of TON")
		}
	}
	switch {
	case (o.file == "") == (len(args) == 0):
		return j, cli.Usagef("give either a PROMPT or -f FILE")
	case o.file == "-":
		j.Body, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), schemas.MaxRequestBody+1))
	case o.file != "":
		j.Body, err = os.ReadFile(o.file)
	case o.model == "":
		return j, cli.Usagef("--model is required with a PROMPT")
	default:
		j.Body = promptBody(o.model, args[0], o.maxTokens, o.stream)
	}
	if err != nil {
		return j, fmt.Errorf("read request: %w", err)
	}
	return j, nil
}

// promptBody is a chat request with one message.
func promptBody(model, prompt string, maxTokens int, stream bool) []byte {
	b := openai.Object{
		{Name: "model", Value: openai.Quote(model)},
		{Name: "messages", Value: append(append([]byte(`[{"role":"user","content":`), openai.Quote(prompt)...), "}]"...)},
	}
	if maxTokens > 0 {
		b = b.With("max_tokens", strconv.AppendInt(nil, int64(maxTokens), 10))
	}
	if stream {
		b = b.With("stream", []byte("true"))
	}
	return b.Append(nil)
}

// printStream prints the text of a job while it grows.
func printStream(cmd *cobra.Command, h *producers.Handle) error {
	w := cmd.OutOrStdout()
	for e, err := range h.Events(cmd.Context()) {
		switch {
		case cmd.Context().Err() != nil:
			fmt.Fprintf(cmd.ErrOrStderr(), "\ndetached; the job goes on. Take it up again with: cocoon job watch %s\n", h.ID)
			return cmd.Context().Err()
		case err != nil:
			return err
		case e.Answer != nil:
			fmt.Fprintln(w)
			fmt.Fprintf(cmd.ErrOrStderr(), "%d tokens, %s, worker %s (%s)\n", e.Answer.Usage.Total(), e.Answer.Charge.Total, e.Answer.Worker, e.Answer.Environment)
		default:
			fmt.Fprint(w, openai.DeltaText(e.Data))
		}
	}
	return nil
}

// jobGet is `cocoon job get`.
func jobGet(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get JOB", Aliases: []string{"info"}, Args: cobra.ExactArgs(1),
		Short: "Show what is known of a job now",
	}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := conn.open(cmd)
		if err != nil {
			return err
		}
		defer s.close(cmd)
		status, err := s.Get(cmd.Context(), schemas.JobID(args[0]))
		if err != nil {
			return err
		}
		return viewOf(status.Job, status.State, status.Answer, status.Err).print(out)
	}
	return cmd
}

// jobWatch is `cocoon job watch`.
func jobWatch(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "watch JOB", Args: cobra.ExactArgs(1),
		Short: "Wait for a job's answer",
	}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := conn.open(cmd)
		if err != nil {
			return err
		}
		defer s.close(cmd)
		id := schemas.JobID(args[0])
		a, err := s.Watch(cmd.Context(), id)
		return finished(cmd, out, id, a, err)
	}
	return cmd
}

// cancelView is what cancelling came to.
type cancelView struct {
	Job   schemas.JobID       `json:"job"`
	State streams.CancelState `json:"state"`
}

// jobCancel is `cocoon job cancel`.
func jobCancel(conn *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "cancel JOB", Args: cobra.ExactArgs(1),
		Short: "End a job; nothing is charged unless a worker had produced something",
	}
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := conn.open(cmd)
		if err != nil {
			return err
		}
		defer s.close(cmd)
		state, err := s.Cancel(cmd.Context(), schemas.JobID(args[0]))
		if err != nil {
			return err
		}
		return cli.One(out, cancelView{schemas.JobID(args[0]), state}, func(v cancelView) [][2]string {
			return [][2]string{{"job", string(v.Job)}, {"state", string(v.State)}}
		})
	}
	return cmd
}

// entryView is a recorded job in a list.
type entryView struct {
	Job       schemas.JobID   `json:"job"`
	State     producers.State `json:"state"`
	Model     string          `json:"model"`
	Submitted time.Time       `json:"submitted"`
	Updated   time.Time       `json:"updated"`
}

// jobList is `cocoon job ls`.
func jobList(conn *connection) *cobra.Command {
	var open bool
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Args: cobra.NoArgs,
		Short: "List the jobs that were submitted from here",
	}
	cmd.Flags().BoolVar(&open, "open", false, "only jobs without an outcome")
	out := cli.OutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := conn.open(cmd)
		if err != nil {
			return err
		}
		defer s.close(cmd)
		var list []entryView
		for e, err := range s.Jobs(cmd.Context(), open) {
			if err != nil {
				return err
			}
			list = append(list, entryView{e.ID, e.State, strings.Join(e.Attributes["ce-subject"], ""), e.Created, e.Updated})
		}
		return cli.List(out, list, func(list []entryView) cli.Table {
			t := cli.Table{Header: []string{"JOB", "STATE", "MODEL", "SUBMITTED"}}
			for _, e := range list {
				t.Rows = append(t.Rows, []string{string(e.Job), string(e.State), shortModel(e.Model), e.Submitted.Local().Format(time.DateTime)})
			}
			return t
		})
	}
	return cmd
}

// shortModel is a model id without its root.
func shortModel(id string) string {
	short, _, _ := strings.Cut(id, ":")
	return short
}
