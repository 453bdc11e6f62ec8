// The pages of the dashboard. Each names the sections that it shows; app.js brings them and draws what show returns.
"use strict";

const sum = (list, f) => list.reduce((a, x) => a + f(x), 0);
const byKind = { succeeded: "", serving: "", good: "", admitted: "", completed: "", done: "", idle: "calm", starting: "warn", draining: "warn", disabled: "warn", paused: "warn", probation: "warn",
  cancelled: "warn", cancelling: "warn", expired: "warn", waiting: "warn", validating: "warn", in_progress: "", running: "", signed: "warn", accepted: "warn" };
const stateTag = (state, title) => tag(state, byKind[state] ?? "bad", title);
const operator = () => Boolean(head("server").actions);
const readOnly = () => operator() ? null : soft("This dashboard is read-only: it was started without an operator token.");

// Network

const depth = (m, c) => sum(m.queues.filter((q) => q.class === c), (q) => q.pending);
const demand = (m) => sum(m.queues, (q) => q.pending + q.in_flight);
const oldestOf = (m) => m.queues.map((q) => q.oldest_at).filter(Boolean).sort()[0];

function supply(m) {
  if (m.slots) return lines(number(m.busy) + " / " + number(m.slots), meter(m.busy, m.slots, m.busy + " of " + m.slots + " slots busy"));
  return tag(demand(m) ? "no worker" : "none", demand(m) ? "bad" : "calm");
}

function network() {
  const n = head("network");
  const starved = rows("network").filter((m) => !m.slots && demand(m)).length;
  return [
    el("h1", "Network"), problem("network"),
    figures([
      ["Jobs per second", number(n.jobs_per_second)], ["Tokens per second", compact(n.tokens_per_second ?? 0)],
      ["Waiting", compact(n.waiting ?? 0), n.oldest_at ? el("span", "oldest ", since(n.oldest_at)) : "nothing waits"],
      ["Running", number(n.in_flight)],
      ["Slots busy", el("span", number(n.busy), el("small", " / " + number(n.slots))), n.slots ? percent(Math.floor(10000 * n.busy / n.slots)) : "no supply"],
      ["Workers online", number(n.workers_online), Object.entries(n.states ?? {}).filter(([s]) => s !== "serving").map(([s, k]) => number(k) + " " + s).join(", ") || "all serving"],
      ["Jobs served", compact(n.jobs_served ?? 0)],
      ["Median wait", span(n.median_wait || n.median_run), n.median_wait ? "queue to outcome" : "grant to outcome"],
    ]),
    el("div.charts", { "data-key": "charts" }, chart("Jobs per second", [["jobs"]], number(n.jobs_per_second)), chart("Tokens per second", [["tokens"]], compact(n.tokens_per_second ?? 0)),
      chart("Jobs waiting", [["waiting"]], compact(n.waiting ?? 0)), chart("Slots busy of all", [["busy"], ["slots"]], number(n.busy) + " / " + number(n.slots))),
    el("h2", "Models ", soft(number(rows("network").length)), starved ? el("span", " ", tag(starved + " with jobs and no worker", "bad")) : null),
    rows("network").length > 8 ? toolbar("Search models") : null,
    table("models", [
      { title: "Model", sort: (m) => m.name, cell: (m) => lines(el("strong", m.name), soft(short(m.slug, 34))) },
      { title: "Price in / out, per million", kind: "n", sort: (m) => BigInt(m.price.completion), cell: (m) => lines(ton(m.price.prompt), soft(ton(m.price.completion))) },
      { title: "Priority", kind: "n", sort: (m) => depth(m, "priority"), cell: (m) => number(depth(m, "priority")) },
      { title: "Standard", kind: "n", sort: (m) => depth(m, "standard"), cell: (m) => number(depth(m, "standard")) },
      { title: "Batch", kind: "n", sort: (m) => depth(m, "batch"), cell: (m) => number(depth(m, "batch")) },
      { title: "Oldest", kind: "n", sort: (m) => oldestOf(m) ? -new Date(oldestOf(m)) : -8e15, cell: (m) => since(oldestOf(m)) },
      { title: "Running", kind: "n", sort: (m) => sum(m.queues, (q) => q.in_flight), cell: (m) => number(sum(m.queues, (q) => q.in_flight)) },
      { title: "Slots busy", kind: "n", sort: (m) => m.slots, cell: supply },
      { title: "Workers", kind: "n", sort: (m) => m.workers, cell: (m) => number(m.workers) },
      { title: "Tokens/s", kind: "n", sort: (m) => m.tokens_per_second ?? 0, cell: (m) => compact(m.tokens_per_second ?? 0) },
    ], rows("network").sort((a, b) => demand(b) - demand(a) || (a.name < b.name ? -1 : 1)), {
      key: (m) => m.slug, text: (m) => m.model + " " + m.slug, label: "Models", detail: modelDetail,
      empty: empty("No models yet", el("span", "A catalogue says what is served and at which price: ", code("cocoon catalogue publish"), " puts one into force.")),
    }),
  ];
}

function modelDetail(m) {
  return el("div.panes", card("Model", facts([["Id", el("span.mono", m.model)], ["Context", number(m.context) + " tokens"], ["Endpoints", m.endpoints.join(", ")]])),
    card("Price per million tokens", facts([["Prompt", ton(m.price.prompt, 9)], ["Cached prompt", ton(m.price.cached, 9)], ["Completion", ton(m.price.completion, 9)], ["Reasoning", ton(m.price.reasoning, 9)]])),
    card("Queues", m.queues.length ? facts(m.queues.map((q) => [q.class, el("span", number(q.pending) + " waiting, " + number(q.in_flight) + " running" + (q.redelivered ? ", " + number(q.redelivered) + " redelivered" : ""),
      q.oldest_at ? el("span", ", oldest ", since(q.oldest_at)) : null, q.paused ? el("span", " ", tag("paused", "warn")) : null)])) : soft("No job has been queued yet.")));
}

// Workers

const details = new Map(); // what brokers found, by worker, with the row that it was asked for

function workerDetail(id, stamp) {
  const have = details.get(id);
  if (have?.stamp !== stamp) {
    details.set(id, { stamp, value: have?.value });
    fetch("/api/workers/" + id).then((r) => r.json()).then((v) => { details.set(id, { stamp, value: v }); render(); })
      .catch(() => { details.delete(id); });
  }
  return details.get(id).value;
}

function evidence(f, title) {
  const t = f.tdx;
  return card(title,
    facts([
      ["Verdict", el("span", f.kind ? tag("refused at " + (f.step ?? "the door"), "bad") : tag("admitted"), " ", ago(f.time))],
      f.kind ? ["Reason", el("span.bad", (f.field ? f.field + ": " : "") + f.message)] : null,
      f.image ? ["Policy entry", f.image + (f.policy ? ", policy version " + f.policy : "")] : f.policy ? ["Policy", "version " + f.policy + ", no entry matches"] : null,
      f.not_after ? ["Valid until", ago(f.not_after)] : null,
      t ? ["Platform TCB", t.platform] : null, t ? ["TDX module TCB", t.tdx_module] : null, t ? ["Quoting enclave", t.qe] : null,
      t?.tcb_date ? ["TCB of", t.tcb_date.slice(0, 10)] : null, t?.advisories?.length ? ["Advisories", t.advisories.join(", ")] : null,
      t?.mrtd ? ["MRTD", el("span.mono", t.mrtd)] : null, t?.mrtd ? ["RTMR0", el("span.mono", t.rtmr0)] : null, t?.mrtd ? ["RTMR1", el("span.mono", t.rtmr1)] : null,
      t?.mrtd ? ["RTMR2", el("span.mono", t.rtmr2)] : null, t?.mrtd ? ["RTMR3", el("span.mono", t.rtmr3)] : null, t?.mrtd ? ["TDX module", el("span.mono", t.module)] : null,
      t ? ["Machine", el("span.mono", t.machine)] : f.kind ? ["Registers", soft("the quote does not verify: nothing in it can be believed")] : null,
      ...(f.gpus ?? []).map((g, i) => ["GPU " + i, el("span", g.architecture + ", driver " + g.driver + ", VBIOS " + g.vbios + ", " + g.matched + " of " + g.measurements + " measurements match golden values, ",
        g.revocation_checked ? "not revoked" : "revocation not checked")]),
      f.evidence ? ["Evidence", el("span.mono", f.evidence)] : null, f.broker ? ["Judged by", el("span.mono", f.broker)] : null,
    ]),
    f.advice ? el("p.advice", el("strong", "What to do: "), f.advice) : null);
}

function workerPane(x) {
  const d = workerDetail(x.worker, JSON.stringify(x.evidence_state ?? null)), r = x.reputation;
  return el("div.panes",
    d?.admitted ? evidence(d.admitted, "Evidence in force") : null, d?.refused ? evidence(d.refused, "Last refusal") : null,
    d && !d.admitted && !d.refused ? card("Evidence", soft("No broker has judged this worker within two hours.")) : !d ? card("Evidence", soft("Loading.")) : null,
    card("Worker", facts([["Id", el("span.mono", x.worker)], ["Owner", el("span.mono", x.owner || "–")], ["Host", x.host || "–"], ["Version", x.version || "–"], ["Started", ago(x.started)],
      ["State", x.state + (x.reason ? ": " + x.reason : "")], ["Outcomes", number(x.done) + " done, " + number(x.failed) + " failed in this life"],
      r ? ["Reputation", r.standing + ", " + percent(r.rate) + " of " + number(r.jobs) + " jobs in " + span(r.span) + ", " + number(r.lost) + " redelivered, median " + wholeSeconds(r.median)] : null,
      ...x.models.map((m) => ["Model", el("span", m.route.slug + ": " + m.busy + " of " + m.slots + " slots busy, " + number(m.tokens_per_second ?? 0) + " tokens/s")]),
      ...(x.gpus ?? []).map((g) => ["GPU, as stated", g.name + (g.cc ? ", CC " + g.cc : "") + ", " + g.utilisation + " %, " + bytes(g.memory_used) + " of " + bytes(g.memory_total)])])));
}

function evidenceCell(x) {
  const e = x.evidence_state;
  if (!e) return lines(tag("not judged", "calm"), x.attested_until ? soft("until ", ago(x.attested_until)) : null);
  return lines(el("span", e.admitted ? tag("admitted") : tag("refused", "bad"), x.environment === "simulated" ? el("span", " ", tag("simulated", "warn")) : null),
    e.reason ? el("span.bad", { title: e.reason }, e.reason.length > 60 ? e.reason.slice(0, 60) + "…" : e.reason) : null,
    e.admitted ? soft(e.image + ", TCB " + (e.tcb ?? "–")) : null, e.admitted ? soft("ends ", ago(e.not_after)) : null);
}

function gpuCell(x) {
  if (!x.gpus?.length) return x.evidence_state?.gpu ? lines(x.evidence_state.gpu, soft("attested; no vitals stated")) : soft("none stated");
  const g = x.gpus[0], used = sum(x.gpus, (g) => g.memory_used), total = sum(x.gpus, (g) => g.memory_total), load = sum(x.gpus, (g) => g.utilisation) / x.gpus.length;
  return lines((x.gpus.length > 1 ? x.gpus.length + " × " : "") + g.name, el("span", g.cc ? tag("CC " + g.cc, g.cc === "on" ? "" : "warn") : tag("CC unknown", "calm"), soft(" " + Math.round(load) + " % busy")),
    total ? el("span", { title: bytes(used) + " of " + bytes(total) }, meter(used, total), soft(bytes(used) + " / " + bytes(total))) : null);
}

function workers() {
  const all = rows("workers"), state = mine();
  const of = (x) => x.gone ? "gone" : x.state;
  const counts = {};
  for (const x of all) counts[of(x)] = (counts[of(x)] ?? 0) + 1;
  const list = all.filter((x) => !state.chip || of(x) === state.chip).sort((a, b) => (a.gone ? 1 : 0) - (b.gone ? 1 : 0) || (a.host ?? "").localeCompare(b.host ?? "") || (a.worker < b.worker ? -1 : 1));
  const ending = all.filter((x) => x.evidence_state?.admitted && !x.gone && -seconds(x.evidence_state.not_after) < 300).length;
  const steer = (label, x, order, what) => action(label, "/api/workers/steer", { worker: x.worker, order }, what);
  const columns = [
    { title: "Worker", sort: (x) => x.host ?? "", cell: (x) => lines(el("strong", x.host || short(x.worker, 17)), soft(short(x.worker, 17))) },
    { title: "State", sort: of, cell: (x) => lines(x.gone ? tag("gone", "bad") : stateTag(x.state), x.gone ? soft("since ", since(x.gone)) : x.reason ? el("span.soft", { title: x.reason }, x.reason.slice(0, 48)) : null) },
    { title: "Evidence", sort: (x) => (x.evidence_state?.admitted ? "a" : "b") + (x.evidence_state?.not_after ?? ""), cell: evidenceCell },
    { title: "GPU, as stated", sort: (x) => x.gpus?.[0]?.name ?? "", cell: gpuCell },
    { title: "Slots busy", kind: "n", sort: (x) => sum(x.models, (m) => m.slots), cell: (x) => lines(number(sum(x.models, (m) => m.busy)) + " / " + number(sum(x.models, (m) => m.slots)), meter(sum(x.models, (m) => m.busy), sum(x.models, (m) => m.slots))) },
    { title: "Tokens/s", kind: "n", sort: (x) => sum(x.models, (m) => m.tokens_per_second ?? 0), cell: (x) => compact(sum(x.models, (m) => m.tokens_per_second ?? 0)) },
    { title: "Ask", kind: "n", sort: (x) => x.ask, cell: (x) => x.ask ? (x.ask / 10000).toFixed(2) + "×" : "any" },
    { title: "Done", kind: "n", sort: (x) => x.done, cell: (x) => lines(compact(x.done), x.failed ? el("span.bad", compact(x.failed) + " failed") : null) },
    { title: "Reputation", sort: (x) => x.reputation?.rate ?? -1, cell: (x) => x.reputation ? lines(el("span", stateTag(x.reputation.standing), " ", x.reputation.jobs ? percent(x.reputation.rate) : ""),
      x.reputation.jobs ? soft("median " + wholeSeconds(x.reputation.median) + ", " + number(x.reputation.lost) + " redelivered") : soft("no jobs yet")) : soft("none yet") },
  ];
  if (operator()) {
    columns.push({ title: "Actions", cell: (x) => x.gone ? "" : el("span.buttons",
      steer("Drain", x, { drain: true }, "The worker finishes what it holds and ends."),
      x.state === "disabled" ? steer("Enable", x, {}, "The worker takes jobs again.") : steer("Disable", x, { disabled: true }, "The worker takes nothing new, but stays.")) });
  }
  return [
    el("h1", "Workers"), problem("workers"), problem("refusals"),
    figures([["Online", number(all.length - (counts.gone ?? 0)), counts.gone ? number(counts.gone) + " left a moment ago" : null], ["Serving", number(counts.serving ?? 0)],
      ["Hosts refused", number(head("refusals").count), "in the last two hours"], ["Evidence ends soon", number(ending), "within 5 min; renewed by itself"],
      ["Slots busy", el("span", number(head("network").busy), el("small", " / " + number(head("network").slots)))]]),
    readOnly() ? el("p.lead", readOnly()) : null,
    toolbar("Search workers, hosts, GPUs", Object.entries(counts).sort().map(([s, n]) => [s, s, n])),
    table("workers", columns, list, {
      key: (x) => x.worker, detail: workerPane, dim: (x) => x.gone, label: "Workers",
      text: (x) => [x.worker, x.host, x.state, x.reason, x.owner, x.evidence_state?.image, x.evidence_state?.reason, ...(x.gpus ?? []).map((g) => g.name), ...x.models.map((m) => m.route.slug)].join(" "),
      empty: empty("No worker is online", el("span", code("cocoon worker"), " starts one on a machine with a GPU. ", code("cocoon doctor"), " says what a machine lacks, and a host that a broker refuses is listed below with the reason.")),
    }),
    el("h2", "Refused hosts ", soft("in the last two hours; who sent refused evidence is only stated")),
    table("refusals", [
      { title: "Refused", sort: (f) => f.time, cell: (f) => ago(f.time) },
      { title: "Worker, as stated", cell: (f) => short(f.worker, 17) },
      { title: "Step", sort: (f) => f.step ?? "", cell: (f) => f.step ?? "–" },
      { title: "Reason", kind: "wrap", sort: (f) => f.field ?? "", cell: (f) => el("span.bad", (f.field ? f.field + ": " : "") + f.message) },
      { title: "What to do", kind: "wrap", cell: (f) => f.advice ?? "–" },
    ], rows("refusals").sort((a, b) => a.time < b.time ? 1 : -1), {
      key: (f) => "refused " + f.worker, label: "Refused hosts", text: (f) => f.worker + f.field + f.message,
      detail: (f) => { const d = workerDetail(f.worker, f.time); return d?.refused ? evidence(d.refused, "What the broker found") : soft("Loading."); },
      empty: empty("No host was refused", "Brokers examine processor, firmware, image and GPUs of every worker. Who does not pass is listed here with the reason and what to do."),
    }),
  ];
}

// Jobs

function stages(x) {
  return [["queued", x.queued], ["granted", x.granted], ["started", x.started], ["finished", x.finished], ["stored", x.stored]];
}

// timeline draws the parts of a job's life in proportion.
function timeline(x) {
  const known = stages(x).filter(([, at]) => at), first = new Date(known[0]?.[1]), whole = new Date(known.at(-1)?.[1]) - first;
  if (known.length < 2) return soft("–");
  const colour = { granted: "t-wait", started: "t-open", finished: "t-run", stored: "t-store" };
  const parts = known.slice(1).map(([name, at], i) => {
    const took = new Date(at) - new Date(known[i][1]);
    return el("i." + colour[name], { style: "width:" + (whole > 0 ? 100 * Math.max(0, took) / whole : 0).toFixed(1) + "%", title: known[i][0] + " to " + name + ": " + span(took * 1e6) });
  });
  return el("div.timeline", { role: "img", "aria-label": known.map(([n, at]) => n + " " + absolute(at)).join(", ") }, ...parts);
}

function jobPane(x) {
  const known = stages(x);
  return el("div.panes",
    card("Timeline", facts(known.map(([name, at], i) => {
      const before = known.slice(0, i).reverse().find(([, t]) => t);
      return [name, at ? el("span", absolute(at), before && new Date(at) > new Date(before[1]) ? soft(" +" + span((new Date(at) - new Date(before[1])) * 1e6)) : null) : soft("not known")];
    }))),
    card("Public attributes", facts([["Job", el("span.mono", x.job)], ["Tenant", el("span.mono", x.tenant)], ["Model", el("span.mono", x.model ?? x.slug)], ["Class", x.class || "–"], ["Worker", x.worker ? el("span.mono", x.worker) : "–"],
      ["Attempt", x.attempt || "–"], ["Deadline", x.expiry ? ago(x.expiry) : null]])),
    x.status ? card("Usage, as the receipt states it", facts([["Prompt", number(x.usage.prompt) + " tokens"], ["Cached", number(x.usage.cached) + " tokens"], ["Completion", number(x.usage.completion) + " tokens"], ["Reasoning", number(x.usage.reasoning) + " tokens"],
      ["Charged", x.charged ? ton(x.charged, 9) : "–"], ["Ceiling", x.ceiling ? ton(x.ceiling, 9) : "–"]])) : null);
}

function jobs() {
  const all = rows("jobs"), state = mine(), of = (x) => x.status || "waiting";
  const counts = {};
  for (const x of all) counts[of(x)] = (counts[of(x)] ?? 0) + 1;
  const at = (x) => x.stored ?? x.queued ?? "";
  const list = all.filter((x) => !state.chip || of(x) === state.chip).sort((a, b) => (a.status ? 1 : 0) - (b.status ? 1 : 0) || (at(a) < at(b) ? 1 : -1));
  const n = head("network"), model = (x) => x.model ? x.model.split(":")[0] : x.slug;
  const total = (x) => x.stored && (x.queued || x.granted) ? new Date(x.stored) - new Date(x.queued ?? x.granted) : -1;
  return [
    el("h1", "Jobs"), problem("jobs"),
    el("p.lead", "The newest outcomes, and the newest jobs that this dashboard saw arrive and that have not ended. Only public attributes: what was asked and answered is sealed."),
    figures([["Jobs per second", number(n.jobs_per_second)], ["Waiting", compact(n.waiting ?? 0)], ["Running", number(n.in_flight)], ["Median wait", span(n.median_wait), "queue to outcome"], ["Median run", span(n.median_run), "grant to outcome"], ["Jobs served", compact(n.jobs_served ?? 0)]]),
    toolbar("Search jobs, tenants, workers", Object.entries(counts).sort().map(([s, k]) => [s, s, k])),
    el("p.key", el("span", el("i.t-wait"), "waits for a grant"), el("span", el("i.t-open"), "is opened"), el("span", el("i.t-run"), "runs"), el("span", el("i.t-store"), "is stored")),
    table("jobs", [
      { title: "Job", cell: (x) => lines(short(x.job, 12), soft("tenant ", short(x.tenant, 8))) },
      { title: "Model", sort: model, cell: (x) => lines(model(x), soft(x.class || "–")) },
      { title: "State", sort: of, cell: (x) => x.status ? lines(stateTag(x.status), x.kind ? el("span.bad", x.kind) : null) : tag("not ended", "warn") },
      { title: "Timeline", sort: total, cell: timeline },
      { title: "Took", kind: "n", sort: total, cell: (x) => x.status ? (total(x) < 0 ? "–" : span(total(x) * 1e6)) : since(x.queued) },
      { title: "In", kind: "n", sort: (x) => x.usage.prompt + x.usage.cached, cell: (x) => x.status ? number(x.usage.prompt + x.usage.cached) : "–" },
      { title: "Out", kind: "n", sort: (x) => x.usage.completion + x.usage.reasoning, cell: (x) => x.status ? number(x.usage.completion + x.usage.reasoning) : "–" },
      { title: "Charged", kind: "n", sort: (x) => BigInt(x.charged ?? 0), cell: (x) => x.charged && x.charged !== "0" ? ton(x.charged) : "–" },
      { title: "Tries", kind: "n", sort: (x) => x.attempt ?? 0, cell: (x) => x.attempt || "–" },
      { title: "Worker", sort: (x) => x.worker ?? "", cell: (x) => short(x.worker, 12) },
      { title: "When", kind: "n", sort: at, cell: (x) => ago(at(x)) },
    ], list, {
      key: (x) => x.job, detail: jobPane, label: "Jobs", text: (x) => [x.job, x.tenant, x.worker, x.model, x.slug, x.class, x.status, x.kind].join(" "),
      empty: empty("No job has finished yet", el("span", "Send one: ", code("cocoon job run MODEL 'Say hello'"), ", or point any OpenAI client at the gateway.")),
    }),
  ];
}

// Batches

function batchState(b) {
  const done = b.succeeded + b.failed, whole = b.total || done + b.waiting;
  return lines(el("span", number(done) + " / " + number(whole)), meter(done, whole, number(done) + " of " + number(whole) + " ended"));
}

function eta(b) {
  return b.waiting && b.per_second > 0 ? "about " + lasts(b.waiting / b.per_second) : "–";
}

// wholeSeconds spells a time that control knows in whole seconds only.
const wholeSeconds = (ns) => ns < 1e9 ? "under 1 s" : span(ns);
const reasons = (b) => Object.entries(b.reasons ?? {}).map(([k, n]) => k + " " + number(n)).join(", ");

function batches() {
  const all = rows("batches"), own = all.filter((b) => b.id), bulk = all.filter((b) => !b.id);
  const columns = [
    { title: "State", sort: (b) => b.state, cell: (b) => stateTag(b.state) },
    { title: "Ended", kind: "n", sort: (b) => b.succeeded + b.failed, cell: batchState },
    { title: "Succeeded", kind: "n", sort: (b) => b.succeeded, cell: (b) => number(b.succeeded) },
    { title: "Failed", kind: "n", sort: (b) => b.failed, cell: (b) => b.failed ? el("span.bad", { title: reasons(b) }, number(b.failed)) : "0" },
    { title: "Waiting", kind: "n", sort: (b) => b.waiting, cell: (b) => number(b.waiting) },
    { title: "Tokens", kind: "n", sort: (b) => b.tokens, cell: (b) => compact(b.tokens) },
    { title: "Charged", kind: "n", sort: (b) => BigInt(b.charged ?? 0), cell: (b) => ton(b.charged) },
  ];
  return [
    el("h1", "Batches"), problem("batches"),
    figures([["Jobs waiting", compact(sum(bulk, (b) => b.waiting)), "class batch"], ["Tenants with bulk work", number(new Set(bulk.filter((b) => b.waiting).map((b) => b.tenant)).size)],
      ["Jobs per second", number(sum(bulk, (b) => b.per_second)), "class batch, last minute"], ["Failed", number(sum(bulk, (b) => b.failed)), "since this page's server started"],
      head("batches").local ? ["Batches of this gateway", number(own.length), number(own.filter((b) => b.state === "in_progress").length) + " in progress"] : null]),
    el("h2", "Bulk work by tenant and model"),
    el("p.lead", "What the network can know. Which jobs belong to one submission, and what it is called, stands in sealed bodies: only the tenant knows."),
    table("bulk", [
      { title: "Tenant", sort: (b) => b.tenant, cell: (b) => lines(short(b.tenant, 17), soft(b.model || b.slug)) }, ...columns,
      { title: "Per second", kind: "n", sort: (b) => b.per_second, cell: (b) => number(b.per_second) },
      { title: "Rest takes", kind: "n", cell: eta },
      { title: "Oldest", kind: "n", sort: (b) => b.oldest_at ?? "", cell: (b) => since(b.oldest_at) },
      { title: "Last outcome", kind: "n", sort: (b) => b.last ?? "", cell: (b) => ago(b.last) },
    ], bulk.sort((a, b) => b.waiting - a.waiting || ((a.last ?? "") < (b.last ?? "") ? 1 : -1)), {
      key: (b) => b.tenant + b.model, label: "Bulk work", text: (b) => b.tenant + b.model,
      empty: empty("No bulk work", el("span", "Jobs of class batch wait until nothing more urgent does, at the lowest price. ", code("cocoon batch submit FILE.jsonl"), " sends a file of them.")),
    }),
    el("h2", "Batches of this gateway"),
    !head("batches").local ? empty("No gateway runs beside this dashboard", "Names and progress of batches live with whoever submits them. Where the dashboard runs beside a gateway, as in cocoon up, that gateway's batches are listed here.") :
      table("batches", [
        { title: "Batch", sort: (b) => b.created, cell: (b) => lines(el("strong", b.name || short(b.id, 22)), soft(b.name ? short(b.id, 22) : b.model || "–")) }, ...columns,
        { title: "Created", kind: "n", sort: (b) => b.created, cell: (b) => ago(b.created) },
        { title: "Took", kind: "n", cell: (b) => b.last ? span((new Date(b.last) - new Date(b.created)) * 1e6) : since(b.created) },
        { title: "Expires", kind: "n", sort: (b) => b.expires ?? "", cell: (b) => b.last ? "–" : ago(b.expires) },
      ], own.sort((a, b) => a.created < b.created ? 1 : -1), {
        key: (b) => b.id, label: "Batches", text: (b) => b.id + b.name + b.model,
        detail: (b) => card("Batch", facts([["Id", el("span.mono", b.id)], ["Model", b.model || "–"], ["Created", absolute(b.created)], ["Failures", reasons(b) || "none"], ["Charged", ton(b.charged, 9)]])),
        empty: empty("No batch yet", el("span", "Upload a JSONL file and create one with any OpenAI client: ", code("POST /v1/files"), ", then ", code("POST /v1/batches"), ".")),
      }),
  ];
}

// Dead letters

const older = []; // pages of older dead letters that were asked for
acts.older = (before) => {
  fetch("/api/dead?before=" + encodeURIComponent(before)).then((r) => r.json()).then((page) => { older.push(...page.letters ?? []); render(); })
    .catch(() => toast("Older dead letters: the dashboard cannot be reached", false));
};

const letters = new Map(); // previews by position

function letterPane(d) {
  if (!letters.has(d.seq)) {
    letters.set(d.seq, null);
    fetch("/api/dead/" + d.seq).then((r) => r.json()).then((v) => { letters.set(d.seq, v); render(); }).catch(() => letters.delete(d.seq));
  }
  const l = letters.get(d.seq);
  const known = Object.entries(l?.header ?? {}).filter(([k]) => k.startsWith("ce-"));
  return el("div.panes", card("Public attributes", l?.error ? soft("It is gone: replayed or removed.") : l ? facts(known.map(([k, v]) => [k, el("span.mono", v.join(", "))])) : soft("Loading.")),
    card("What happened", facts([["Reason", d.reason], ["Deliveries", number(d.deliveries)], ["Deadline", d.expiry ? ago(d.expiry) : "–"], ["Size", bytes(d.size) + ", sealed"], ["Position", String(d.seq)]])));
}

function dead() {
  const d = head("dead"), newest = rows("dead");
  const known = new Set(newest.map((l) => l.seq)), list = [...newest, ...older.filter((l) => !known.has(l.seq))].sort((a, b) => b.seq - a.seq);
  const over = (l) => l.expiry && seconds(l.expiry) > 0;
  const columns = [
    { title: "Died", sort: (l) => l.seq, cell: (l) => lines(ago(l.died), soft("no. " + l.seq)) },
    { title: "Job", cell: (l) => lines(short(l.job || "unreadable", 12), soft("tenant ", short(l.tenant, 8))) },
    { title: "Model", sort: (l) => l.route.slug, cell: (l) => lines(short(l.route.slug, 30), soft(l.class)) },
    { title: "Why", kind: "wrap", sort: (l) => l.reason, cell: (l) => l.reason || "–" },
    { title: "Tries", kind: "n", sort: (l) => l.deliveries, cell: (l) => number(l.deliveries) },
    { title: "Size", kind: "n", sort: (l) => l.size, cell: (l) => bytes(l.size) },
    { title: "Deadline", kind: "n", sort: (l) => l.expiry ?? "", cell: (l) => ago(l.expiry) },
  ];
  if (operator()) columns.push({ title: "Action", cell: (l) => over(l) ? soft("expired") : action("Replay", "/api/dead/replay", { seq: l.seq }, "The job goes back into its queue under its own id, and its failed outcome is taken away. If it succeeds, its tenant is charged for it.") });
  const last = list.at(-1)?.seq;
  return [
    el("h1", "Dead letters"), problem("dead"),
    figures([["In all", number(d.count)], ["Shown", number(list.length), "newest first"]]),
    el("p.lead", "Jobs that failed on every attempt. Only sealed bytes and public attributes are kept. ", readOnly()),
    list.length ? toolbar("Search jobs, tenants, reasons") : null,
    table("dead", columns, list, {
      key: (l) => String(l.seq), detail: letterPane, label: "Dead letters", text: (l) => [l.job, l.tenant, l.route.slug, l.class, l.reason].join(" "),
      empty: empty("No dead letters", "A job that fails on every attempt lands here and can be replayed once the cause is gone. That there are none is how it should be."),
    }),
    list.length && list.length < d.count ? el("p", el("button", { type: "button", "data-act": "older", "data-arg": last }, "Show older ones")) : null,
  ];
}

// Money

const ownColours = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];
const asTON = (nano) => Number(nano) / 1e9; // for drawing only

// plotEarnings draws stacked bars, one colour a worker.
function plotEarnings(frame) {
  const e = head("money").earnings ?? {};
  if (!e.hours?.length) return;
  let base = e.hours.map(() => 0);
  const layers = (e.workers ?? []).map((w) => (base = base.map((b, i) => b + asTON(w.earned[i]))));
  const css = palette();
  plot(frame, [e.hours, ...layers.reverse()], () => layers.map((_, i) => ({ points: { show: false }, stroke: css(ownColours[layers.length - 1 - i]), fill: css(ownColours[layers.length - 1 - i]), width: 0, paths: uPlot.paths.bars({ size: [0.8, 40] }) })), { height: 160 });
}

function earningsChart(m) {
  const e = m.earnings ?? {};
  if (!e.workers?.length) return empty("No earnings in the last two days", "Every receipt that settlement books is counted here for its worker, in the hour in which its job finished.");
  return el("figure.chart", { "data-key": "earnings", "data-earnings": true, role: "img", "aria-label": "Earnings of each worker by the hour" },
    el("figcaption", "TON earned by the hour, workers that earned most", el("b", "last 48 h")), el("div.plot", { "data-keep": true }),
    el("ul.legend", ...e.workers.map((w, i) => el("li", el("i", { style: "background:var(" + ownColours[i] + ")" }), short(w.worker, 17), ton(w.total)))));
}

function money() {
  const m = head("money");
  if (m.absent) return [el("h1", "Money"), empty("No settlement runs beside this dashboard", "The books live with settlement. Where it runs in this process, as in cocoon up, or where the dashboard is given its ledger, money is shown here.")];
  return [
    el("h1", "Money"), problem("money"),
    ...(m.alerts ?? []).map((a) => el("p.problem", { role: "alert" }, a)),
    figures([["Held for tenants", ton(m.held)], ["Earned by owners", ton(m.earned)], ["Paid on chain", ton(m.paid)], ["Pending", ton(m.pending), "earned, not yet paid"], ["Network fees", ton(m.fees), "not withdrawn"], ["Receipts booked", compact(m.receipts ?? 0), compact(m.tokens ?? 0) + " tokens"]]),
    el("div.charts", { "data-key": "charts" }, earningsChart(m), chart("Paid on chain, TON", [["paid"]], decimal(m.paid, 4), 160)),
    el("p.soft", "Treasury ", m.treasury ? el("span.mono", m.treasury) : "not known yet", m.chain ? " on " + m.chain : ""),
    el("h2", "Payout batches"),
    table("payouts", [
      { title: "Batch", sort: (b) => Number(b.id), cell: (b) => "No. " + b.id }, { title: "State", sort: (b) => b.state, cell: (b) => b.state === "expired" ? tag("expired", "bad") : stateTag(b.state) },
      { title: "Created", kind: "n", sort: (b) => b.created, cell: (b) => ago(b.created) }, { title: "Transfers", kind: "n", sort: (b) => b.transfers, cell: (b) => number(b.transfers) },
      { title: "Amount", kind: "n", sort: (b) => BigInt(b.amount), cell: (b) => ton(b.amount) }, { title: "Paid", kind: "n", sort: (b) => BigInt(b.paid ?? 0), cell: (b) => ton(b.paid) },
      { title: "Statement root", cell: (b) => hash(b.root, 16) },
      { title: "Transaction", cell: (b) => b.link ? el("a", { href: b.link, rel: "noopener noreferrer", target: "_blank" }, hash(b.transaction, 16)) : b.transaction ? hash(b.transaction, 16) : soft("not yet") },
    ], m.batches ?? [], {
      key: (b) => b.id, label: "Payout batches",
      detail: (b) => card("Payout batch", facts([["Statement root", el("span.mono", b.root || "–")], ["Transaction", b.transaction ? el("span.mono", b.transaction) : "–"], ["Amount", ton(b.amount, 9)], ["Check it", el("span", "owners and tenants prove that a receipt is in it: ", code("cocoon receipt verify"))]])),
      empty: empty("No payout batch yet", "Balances wait for their threshold or age, so that many owners are paid with one message to the chain."),
    }),
    el("h2", "Worker owners"),
    table("owners", [
      { title: "Owner", cell: (o) => el("span.mono", { title: o.owner }, o.owner.slice(0, 10) + "…" + o.owner.slice(-6)) }, { title: "Earned", kind: "n", sort: (o) => BigInt(o.earned), cell: (o) => ton(o.earned) },
      { title: "Paid", kind: "n", sort: (o) => BigInt(o.paid), cell: (o) => ton(o.paid) }, { title: "Pending", kind: "n", sort: (o) => BigInt(o.pending), cell: (o) => ton(o.pending) },
    ], m.owners ?? [], { key: (o) => o.owner, label: "Worker owners", empty: empty("Nobody has earned anything yet", "A worker earns with its first receipt that settlement books.") }),
  ];
}

// Trust

function trust() {
  const t = head("trust");
  const over = (d) => d.expires && seconds(d.expires) > 0;
  const documents = [["Policy", t.policy], ["Catalogue", t.catalogue]].filter(([, d]) => d?.version);
  return [
    el("h1", "Trust"), problem("trust"),
    figures([["Environment", t.environment ?? "–", t.environment === "simulated" ? "protects nothing" : "real hardware"], ["Policy", t.policy?.version ? "version " + t.policy.version : "none"],
      ["Catalogue", t.catalogue?.version ? "version " + t.catalogue.version : "none"], ["Broker groups", number(t.brokers?.length)], ["Keys", number(t.keys?.length)], ["Images admitted", number(t.measurements?.length)]]),
    t.environment === "simulated" ? el("section.card", el("h3", "What is simulated"), el("p", "Processor quotes, GPU reports and their certificates have the real format and pass through the production verifier, but chain to a development root. ",
      "The hardware keeps no secret from its owner. Seals, leases, receipts and books are real.")) : null,
    el("h2", "Signed documents ", soft("root keys ", short(t.roots ?? "", 24))),
    table("documents", [
      { title: "Document", cell: ([name]) => el("strong", name) }, { title: "Version", kind: "n", cell: ([, d]) => String(d.version) }, { title: "Hash", cell: ([, d]) => hash(d.hash, 20) },
      { title: "Valid signatures", kind: "n", cell: ([, d]) => String(d.signers) }, { title: "Issued", kind: "n", cell: ([, d]) => ago(d.issued) }, { title: "Expires", kind: "n", cell: ([, d]) => over(d) ? tag("expired", "bad") : ago(d.expires) },
    ], documents, { key: ([name]) => name, label: "Signed documents", empty: empty("No signed document is in force", el("span", code("cocoon policy publish"), " and ", code("cocoon catalogue publish"), " put them into force. Nothing is admitted before.")) }),
    el("div.charts", { style: "margin-top:1rem" },
      card("What the policy demands", t.rules?.length ? facts(t.rules.map((r) => [r.name, r.value])) : soft("No policy is in force.")),
      card("Brokers", t.brokers?.length ? facts(t.brokers.map((b) => [short(b.broker, 12), el("span", number(b.keys) + (b.keys === 1 ? " key" : " keys") + ", epoch " + (b.first_epoch === b.last_epoch ? b.first_epoch : b.first_epoch + "–" + b.last_epoch) + ", next change ", ago(b.next_change))])) : soft("No broker has published a key."))),
    el("h2", "Admitted images"),
    table("images", [
      { title: "Image", cell: (m) => el("strong", m.name) }, { title: "Role", cell: (m) => m.role }, { title: "MRTD", cell: (m) => hash(m.mrtd, 16) }, { title: "RTMR0", cell: (m) => hash(m.rtmr0, 12) }, { title: "RTMR1", cell: (m) => hash(m.rtmr1, 12) },
      { title: "RTMR2", cell: (m) => hash(m.rtmr2, 12) }, { title: "Configurations", kind: "n", cell: (m) => number(m.configs) }, { title: "Admitted until", kind: "n", cell: (m) => m.not_after ? ago(m.not_after) : "no end" },
    ], t.measurements ?? [], { key: (m) => m.name + m.role + m.rtmr0 + m.rtmr1 + m.rtmr2, label: "Admitted images", empty: empty("The policy admits no image", el("span", code("cocoon attest measure"), " computes the registers of one, ", code("cocoon policy add image"), " admits it.")) }),
    el("h2", "Keys that jobs are sealed to"),
    table("keys", [
      { title: "Model", kind: "wrap", sort: (k) => k.model, cell: (k) => k.model.split(":")[0] }, { title: "Key", cell: (k) => short(k.kid, 16) }, { title: "Epoch", kind: "n", sort: (k) => k.epoch, cell: (k) => String(k.epoch) },
      { title: "Sealed to until", kind: "n", sort: (k) => k.active_until, cell: (k) => ago(k.active_until) }, { title: "Broker", cell: (k) => short(k.broker, 16) },
    ], t.keys ?? [], { key: (k) => k.model + k.epoch, label: "Keys", empty: empty("No broker has published a key", el("span", "Jobs are sealed to a key of an attested broker: ", code("cocoon broker"), " runs one.")) }),
  ];
}

const pages = {
  "/": { sections: ["network", "history"], show: network }, "/workers": { sections: ["workers", "refusals"], show: workers }, "/jobs": { sections: ["jobs"], show: jobs },
  "/batches": { sections: ["batches"], show: batches }, "/dead": { sections: ["dead"], show: dead }, "/money": { sections: ["money", "history"], show: money }, "/trust": { sections: ["trust"], show: trust },
};
go();
