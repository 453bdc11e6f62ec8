package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/cocoon-network/cocoon/producers/batch"
	"github.com/cocoon-network/cocoon/producers/gateway"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// lines is an input file of n requests.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"id-%d","method":"POST","url":"/v1/chat/completions","body":%s}`+"\n", i, producerstest.Ask(fmt.Sprint("question ", i), ""))
	}
	return b.String()
}

// upload uploads a batch input.
func (b *bundle) upload(t *testing.T, text string) *openai.FileObject {
	t.Helper()
	f, err := b.client.Files.New(patience(t), openai.FileNewParams{
		File: openai.File(strings.NewReader(text), "input.jsonl", "application/jsonl"), Purpose: openai.FilePurposeBatch,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// create makes a batch of a file.
func (b *bundle) create(t *testing.T, file string, opts ...option.RequestOption) (*openai.Batch, error) {
	t.Helper()
	return b.client.Batches.New(patience(t), openai.BatchNewParams{
		InputFileID: file, Endpoint: openai.BatchNewParamsEndpointV1ChatCompletions, CompletionWindow: openai.BatchNewParamsCompletionWindow24h,
		Metadata: map[string]string{"team": "red"},
	}, opts...)
}

// ended waits until a batch has ended.
func (b *bundle) ended(t *testing.T, id string) *openai.Batch {
	t.Helper()
	ctx := patience(t)
	for {
		got, err := b.client.Batches.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		switch got.Status {
		case openai.BatchStatusCompleted, openai.BatchStatusFailed, openai.BatchStatusCancelled, openai.BatchStatusExpired:
			return got
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the batch did not end: %+v", got)
		}
	}
}

// content reads a file.
func (b *bundle) content(t *testing.T, id string) string {
	t.Helper()
	w, err := b.client.Files.Content(patience(t), id)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	return read(t, w)
}

func TestBatchAPI(t *testing.T) {
	t.Parallel()
	const n = 30
	b := setup(t, producerstest.Echo)
	f := b.upload(t, lines(n))
	if f.Bytes != int64(len(lines(n))) || f.Purpose != "batch" || f.Filename != "input.jsonl" || b.content(t, f.ID) != lines(n) {
		t.Errorf("file = %+v", f)
	}
	var estimate struct {
		Lines                int
		Low, Expected, Worst string
		Wrong                int
	}
	if err := b.client.Get(patience(t), "files/"+f.ID+"/cost-estimate", nil, &estimate); err != nil || estimate.Lines != n || estimate.Worst == "" || estimate.Wrong != 0 {
		t.Errorf("estimate = %+v, %v", estimate, err)
	}
	made, err := b.create(t, f.ID, option.WithHeader("Idempotency-Key", "one batch"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.create(t, f.ID, option.WithHeader("Idempotency-Key", "one batch"))
	if err != nil || again.ID != made.ID {
		t.Errorf("the same key made another batch: %v, %v", again, err)
	}
	got := b.ended(t, made.ID)
	if got.Status != openai.BatchStatusCompleted || got.RequestCounts.Total != n || got.RequestCounts.Completed != n || got.RequestCounts.Failed != 0 ||
		got.CompletedAt == 0 || got.Metadata["team"] != "red" || got.ErrorFileID != "" || got.Usage.TotalTokens != n*15 {
		t.Errorf("batch = %+v", got)
	}
	out := b.content(t, got.OutputFileID)
	if strings.Count(out, "\n") != n || strings.Count(out, `"status_code":200`) != n {
		t.Errorf("output = %s", out)
	}
	if file, err := b.client.Files.Get(patience(t), got.OutputFileID); err != nil || file.Bytes != int64(len(out)) {
		t.Errorf("output file = %+v, %v", file, err)
	}
	page, err := b.client.Batches.List(patience(t), openai.BatchListParams{})
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != made.ID {
		t.Errorf("list = %+v, %v", page, err)
	}
	if b.worker.Runs() != n {
		t.Errorf("%d runs", b.worker.Runs())
	}
	if _, err := b.client.Files.Delete(patience(t), f.ID); err != nil {
		t.Error(err)
	}
	var apiErr *openai.Error
	if _, err := b.client.Files.Get(patience(t), f.ID); !errors.As(err, &apiErr) || apiErr.StatusCode != 404 {
		t.Errorf("a deleted file = %v", err)
	}
}

func TestBatchAPIBadInput(t *testing.T) {
	t.Parallel()
	b := setup(t, producerstest.Echo)
	f := b.upload(t, lines(2)+"{\n"+lines(1))
	made, err := b.create(t, f.ID)
	if err != nil {
		t.Fatal(err)
	}
	got := b.ended(t, made.ID)
	if got.Status != openai.BatchStatusFailed || len(got.Errors.Data) != 2 || got.Errors.Data[0].Code != "invalid_json_line" || got.Errors.Data[0].Line != 3 ||
		got.Errors.Data[1].Code != "duplicate_custom_id" || got.Errors.Data[1].Line != 4 || got.FailedAt == 0 {
		t.Errorf("batch = %+v", got)
	}
	if b.worker.Runs() != 0 {
		t.Error("lines of a refused batch were run")
	}
	for name, body := range map[string]string{
		"input_file_id":     `{"endpoint":"/v1/chat/completions","completion_window":"24h"}`,
		"endpoint":          `{"input_file_id":"` + f.ID + `","endpoint":"/v1/nothing","completion_window":"24h"}`,
		"completion_window": `{"input_file_id":"` + f.ID + `","endpoint":"/v1/chat/completions","completion_window":"7d"}`,
		"metadata":          `{"input_file_id":"` + f.ID + `","endpoint":"/v1/chat/completions","completion_window":"24h","metadata":{"a":1}}`,
	} {
		w := b.post(t, "/v1/batches", body)
		if got := read(t, w); w.StatusCode != 400 || !strings.Contains(got, `"param":"`+name+`"`) {
			t.Errorf("%s: %d %s", name, w.StatusCode, got)
		}
	}
	w := b.post(t, "/v1/batches", `{"input_file_id":"file-nothing","endpoint":"/v1/chat/completions","completion_window":"24h"}`)
	if w.StatusCode != 404 {
		t.Errorf("no file: %d", w.StatusCode)
	}
	if w := b.post(t, "/v1/files", "x"); w.StatusCode != 400 {
		t.Errorf("an upload that is no form: %d", w.StatusCode)
	}
}

func TestBatchAPICancel(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := setup(t, func(ctx context.Context, r *schemas.Request, emit func([]byte)) schemas.Result {
		if !strings.Contains(string(r.Body), "question 0") {
			select {
			case <-hold:
			case <-ctx.Done():
			}
		}
		return producerstest.Echo(ctx, r, emit)
	})
	b.net.Control(t)
	made, err := b.create(t, b.upload(t, lines(10)).ID)
	if err != nil {
		t.Fatal(err)
	}
	ctx := patience(t)
	for b.worker.Runs() < 10 && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	got, err := b.client.Batches.Cancel(ctx, made.ID)
	if err != nil || got.Status != openai.BatchStatusCancelling {
		t.Fatalf("Cancel = %+v, %v", got, err)
	}
	got = b.ended(t, made.ID)
	if got.Status != openai.BatchStatusCancelled || got.RequestCounts.Completed != 1 || got.RequestCounts.Failed != 9 || got.OutputFileID == "" || got.ErrorFileID == "" {
		t.Errorf("batch = %+v", got)
	}
	if out := b.content(t, got.OutputFileID); !strings.Contains(out, "id-0") {
		t.Errorf("the finished line is lost: %s", out)
	}
	if _, err := b.client.Batches.Cancel(ctx, made.ID); err == nil {
		t.Error("a cancelled batch was cancelled again")
	}
	close(hold)
}

// TestBatchAPISurvives starts a batch under one gateway and finishes it under another on the same folder.
func TestBatchAPISurvives(t *testing.T) {
	t.Parallel()
	const n = 20
	net := producerstest.New(t)
	tenant, dir := net.Net.Tenant(t), t.TempDir()
	start := func() (*gateway.Gateway, func()) {
		c := net.Client(t, producerstest.As(tenant))
		g, err := gateway.New(gateway.Options{Client: c, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		return g, func() {
			cancel()
			<-done
			c.Close(context.Background())
		}
	}
	first, stop := start()
	var form bytes.Buffer
	form.WriteString("--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"i.jsonl\"\r\n\r\n" + lines(n) + "\r\n--x--\r\n")
	file := serve(t, first, http.MethodPost, "/v1/files", "multipart/form-data; boundary=x", form.String())
	made := serve(t, first, http.MethodPost, "/v1/batches", "application/json", `{"input_file_id":"`+field(t, file, "id")+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`)
	id := field(t, made, "id")
	for ctx := patience(t); !strings.Contains(serve(t, first, http.MethodGet, "/v1/batches/"+id, "", ""), `"in_progress"`) && ctx.Err() == nil; {
		time.Sleep(20 * time.Millisecond)
	}
	stop() // no worker has run anything yet
	w, _ := net.Work(t, producerstest.Echo)
	second, stop := start()
	defer stop()
	for ctx := patience(t); !strings.Contains(serve(t, second, http.MethodGet, "/v1/batches/"+id, "", ""), `"completed_at":1`) && ctx.Err() == nil; {
		time.Sleep(20 * time.Millisecond)
	}
	if got := serve(t, second, http.MethodGet, "/v1/batches/"+id, "", ""); !strings.Contains(got, fmt.Sprintf(`"completed":%d`, n)) {
		t.Errorf("batch = %s", got)
	}
	if w.Runs() != n {
		t.Errorf("%d runs for %d lines", w.Runs(), n)
	}
}

// TestBatchHoldsItsCost gives a key room for one batch: while it runs, neither a request nor another batch may spend what
// it can still cost, also after a restart; when it has ended, only what it did cost is gone.
func TestBatchHoldsItsCost(t *testing.T) {
	t.Parallel()
	const n = 3
	network := producerstest.New(t)
	cost, _, err := batch.Estimate(t.Context(), strings.NewReader(lines(n)), batch.Options{}, network.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	secret, key, err := gateway.CreateKey(path, "app", 0, cost.Ceiling)
	if err != nil {
		t.Fatal(err)
	}
	dir, client := t.TempDir(), network.Client(t)
	serve := func() (b *bundle, stop func()) {
		keys, err := gateway.OpenKeys(path)
		if err != nil {
			t.Fatal(err)
		}
		b = &bundle{net: network, dir: dir}
		if b.g, err = gateway.New(gateway.Options{Client: client, Dir: dir, Keys: keys}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.g.Run(ctx) }()
		b.server = httptest.NewServer(b.g)
		b.client = b.as(secret)
		return b, sync.OnceFunc(func() {
			b.server.Close()
			cancel()
			if err := errors.Join(<-done, keys.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	refused := func(b *bundle) {
		t.Helper()
		var apiErr *openai.Error
		if _, err := b.client.Chat.Completions.New(patience(t), chat("x")); !errors.As(err, &apiErr) || apiErr.Code != "budget_exceeded" {
			t.Errorf("a request beside the batch = %v", err)
		}
	}
	submitted := func(b *bundle, id string) {
		t.Helper()
		poll(t, func() bool {
			var got struct{ Reserved schemas.NanoTON }
			return b.client.Get(patience(t), "batches/"+id, nil, &got) == nil && got.Reserved == cost.Ceiling
		})
	}
	b, stop := serve()
	defer stop()
	made, err := b.create(t, b.upload(t, lines(n)).ID)
	if err != nil {
		t.Fatal(err)
	}
	submitted(b, made.ID) // nobody works yet
	refused(b)
	second, err := b.create(t, b.upload(t, lines(1)).ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.ended(t, second.ID); got.RequestCounts.Failed != 1 || !strings.Contains(b.content(t, got.ErrorFileID), "budget_exceeded") {
		t.Errorf("a second batch = %+v", got)
	}
	stop()
	b, stop = serve()
	defer stop()
	poll(t, func() bool { // the gateway takes up its batches beside serving
		_, err := b.client.Chat.Completions.New(patience(t), chat("x"))
		var apiErr *openai.Error
		return errors.As(err, &apiErr) && apiErr.Code == "budget_exceeded"
	})
	network.Work(t, producerstest.Echo)
	if got := b.ended(t, made.ID); got.RequestCounts.Completed != n {
		t.Fatalf("batch = %+v", got)
	}
	list, err := gateway.ListKeys(path)
	if err != nil || len(list) != 1 || list[0].ID != key.ID {
		t.Fatal(list, err)
	}
	charge, err := network.Catalogue.Cost(producerstest.Model, producerstest.Usage, network.Catalogue.Multiplier(schemas.Batch))
	if err != nil {
		t.Fatal(err)
	}
	if list[0].Spent != n*charge.Total {
		t.Errorf("spent %v, want %v", list[0].Spent, n*charge.Total)
	}
	poll(t, func() bool { // what was held is free again
		_, err := b.client.Chat.Completions.New(patience(t), chat("x"))
		return err == nil
	})
}

// poll waits until something is so.
func poll(t *testing.T, so func() bool) {
	t.Helper()
	ctx := patience(t)
	for !so() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("it did not come to be so")
		}
	}
}

func TestFilesAreSeparate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	red, _, err := gateway.CreateKey(path, "red", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	blue, _, err := gateway.CreateKey(path, "blue", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := gateway.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	b := setup(t, producerstest.Echo, func(o *gateway.Options) { o.Keys = keys })
	b.client = b.as(red)
	f := b.upload(t, lines(1))
	made, err := b.create(t, f.ID)
	if err != nil {
		t.Fatal(err)
	}
	b.ended(t, made.ID)
	out := "file-out-" + strings.TrimPrefix(made.ID, "batch_")
	b.content(t, out)
	b.client = b.as(blue)
	var apiErr *openai.Error
	for _, id := range []string{f.ID, out} {
		if _, err := b.client.Files.Get(patience(t), id); !errors.As(err, &apiErr) || apiErr.StatusCode != 404 {
			t.Errorf("another key sees file %s: %v", id, err)
		}
	}
	if _, err := b.client.Batches.Get(patience(t), made.ID); !errors.As(err, &apiErr) || apiErr.StatusCode != 404 {
		t.Errorf("another key sees the batch: %v", err)
	}
	if list, err := b.client.Files.List(patience(t), openai.FileListParams{}); err != nil || len(list.Data) != 0 {
		t.Errorf("another key lists files: %+v, %v", list, err)
	}
}
