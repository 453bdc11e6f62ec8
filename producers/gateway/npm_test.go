package gateway_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// missing skips a test that needs something the machine lacks, or fails it where nothing may be missing.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("COCOON_TEST_REQUIRE") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// npmScript uses the official client as an application does. It prints "ok" after each step that was as it must be.
const npmScript = `
import OpenAI from "openai";
import { toFile } from "openai";
import assert from "node:assert/strict";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any", maxRetries: 0 });
const model = "tiny", messages = [{ role: "user", content: "hello from node" }];
const want = "you said: hello from node";

const answer = await client.chat.completions.create({ model, messages });
assert.equal(answer.choices[0].message.content, want);
assert.equal(answer.choices[0].finish_reason, "stop");
assert.equal(answer.usage.total_tokens, 15);
assert.ok(Number.isInteger(answer.usage.total_cost));
console.log("ok chat");

let text = "", reasons = [], usage = null;
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
  if (chunk.usage) usage = chunk.usage;
}
assert.equal(text, want);
assert.deepEqual(reasons, ["stop"]);
assert.equal(usage.total_tokens, 15);
console.log("ok stream");

const runner = client.chat.completions.stream({ model, messages });
assert.equal(await runner.finalContent(), want);
console.log("ok helper");

const response = await client.responses.create({ model, input: "hello" });
assert.equal(response.output_text, "two words");
assert.equal(response.usage.total_tokens, 15);
const types = [];
let streamed = "", ended = null;
for await (const event of await client.responses.create({ model, input: "hello", stream: true })) {
  types.push(event.type);
  if (event.type === "response.output_text.delta") streamed += event.delta;
  if (event.type === "response.completed") ended = event.response;
}
assert.equal(streamed, "two words");
assert.equal(types[0], "response.created");
assert.equal(types.length, 10);
assert.equal(ended.output[0].content[0].text, "two words");
assert.equal((await client.responses.stream({ model, input: "hello" }).finalResponse()).output_text, "two words");
console.log("ok responses");

assert.ok((await client.models.list()).data.some((m) => m.id === model));
console.log("ok models");

await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), (e) => e.status === 404 && e.code === "model_not_found");
await assert.rejects(client.chat.completions.create({ model, messages, temperature: "hot" , service_tier: "gold" }), (e) => e.status === 400 && e.param === "service_tier");
console.log("ok errors");

const line = (i) => JSON.stringify({ custom_id: "n-" + i, method: "POST", url: "/v1/chat/completions", body: { model, messages, max_tokens: 8 } });
const file = await client.files.create({ file: await toFile(Buffer.from([0, 1, 2].map(line).join("\n"))," lines.jsonl".trim()), purpose: "batch" });
let batch = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
while (!["completed", "failed", "cancelled", "expired"].includes(batch.status)) {
  await new Promise((r) => setTimeout(r, 50));
  batch = await client.batches.retrieve(batch.id);
}
assert.equal(batch.status, "completed");
assert.deepEqual(batch.request_counts, { total: 3, completed: 3, failed: 0 });
const out = await (await client.files.content(batch.output_file_id)).text();
assert.equal(out.trim().split("\n").length, 3);
assert.ok(out.trim().split("\n").every((l) => JSON.parse(l).response.body.choices[0].message.content === want));
console.log("ok batch");
`

// TestNodeClient runs the official openai client of npm against the gateway.
func TestNodeClient(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "%s is not installed", program)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"package.json": `{"private":true,"type":"module"}`, "client.mjs": npmScript} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "openai@6")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		missing(t, "npm install openai: %v\n%s", err, out)
	}
	b := setup(t, respond)
	node := exec.CommandContext(ctx, "node", "client.mjs", b.server.URL+"/v1")
	node.Dir = dir
	out, err := node.CombinedOutput()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), "ok "); n != 7 {
		t.Errorf("%d of 7 steps:\n%s", n, out)
	}
}
