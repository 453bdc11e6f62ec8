// The pages of the dashboard. Every value from the network reaches the page as text, never as markup.
"use strict";

const view = {};
const pages = { "/": network, "/workers": workers, "/jobs": jobs, "/dead": dead, "/money": money, "/trust": trust };
const main = document.getElementById("main");
const charts = new Map();

// el makes an element: el("td.n", "text", child, …).
function el(spec, ...children) {
  const [tag, ...classes] = spec.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

function table(columns, rows, empty) {
  if (!rows.length) return el("p.empty", empty);
  const head = el("tr", ...columns.map(([title, kind]) => {
    const th = el(kind === "n" ? "th.n" : "th", title);
    th.scope = "col";
    return th;
  }));
  const body = rows.map((cells) => el("tr", ...cells.map((cell, i) => el(columns[i][1] ? "td." + columns[i][1] : "td", cell))));
  return el("div.scroll", el("table", el("thead", head), el("tbody", ...body)));
}

function figures(list) {
  return el("dl.figures", ...list.map(([name, value]) => el("div", el("dt", name), el("dd", value))));
}

function problem(section) {
  if (!section.problem) return null;
  const p = el("p.problem", "Shown as of " + time(section.since) + ": " + section.problem);
  p.setAttribute("role", "alert");
  return p;
}

const tag = (text, kind) => el(kind ? "span.tag." + kind : "span.tag", text);
const number = (n) => Number(n).toLocaleString("en-US", { maximumFractionDigits: n < 10 ? 2 : 0 });
const short = (s, n = 10) => {
  const node = el("span.mono", s.length > n + 1 ? s.slice(0, n) + "…" : s);
  node.title = s;
  return node;
};

// ton spells integer nanoTON, given as a string of digits, without ever making it a float.
function ton(nano) {
  const digits = String(nano ?? "0").replace("-", "").padStart(10, "0");
  const frac = digits.slice(-9).replace(/0+$/, "");
  return (String(nano).startsWith("-") ? "-" : "") + BigInt(digits.slice(0, -9)).toLocaleString("en-US") + (frac ? "." + frac : "") + " TON";
}

function time(s) {
  if (!s) return "–";
  return new Date(s).toLocaleString("sv-SE");
}

// span spells nanoseconds.
function span(ns) {
  const s = ns / 1e9;
  if (s === 0) return "–";
  if (s < 1) return Math.round(s * 1000) + " ms";
  if (s < 120) return s.toFixed(1) + " s";
  return s < 7200 ? Math.round(s / 60) + " min" : (s / 3600).toFixed(1) + " h";
}

const percent = (bp) => (bp / 100).toFixed(bp % 100 ? 2 : 0) + " %";

function network() {
  const n = view.network;
  const rows = n.models.map((m) => {
    const q = Object.fromEntries(["priority", "standard", "batch"].map((c) => [c, m.queues.filter((b) => b.class === c)]));
    const depth = (c) => q[c].reduce((a, b) => a + b.pending, 0);
    const oldest = Math.max(0, ...m.queues.map((b) => b.oldest));
    const waits = m.queues.some((b) => b.pending > 0);
    return [
      el("span", el("strong", m.name), el("br"), short(m.slug, 40)),
      el("span", ton(m.price.prompt), el("br"), el("span.soft", ton(m.price.completion) + " out")),
      number(depth("priority")), number(depth("standard")), number(depth("batch")),
      span(oldest),
      m.slots ? m.busy + " / " + m.slots : tag(waits ? "no worker" : "none", waits ? "bad" : "warn"),
      number(m.workers),
    ];
  });
  return [
    el("h1", "Network"), problem(n),
    figures([
      ["Jobs per second", number(n.jobs_per_second)], ["Tokens per second", number(n.tokens_per_second)],
      ["Slots busy", n.busy + " / " + n.slots], ["Workers online", number(n.workers_online)],
      ["Jobs seen", number(n.jobs_served)], ["Median time to outcome", span(n.median_wait)],
    ]),
    el("div.charts", chart("jobs_per_second", "Jobs per second"), chart("tokens_per_second", "Tokens per second"), chart("pending", "Jobs waiting"), chart("busy", "Slots busy")),
    el("h2", "Models"),
    table([["Model"], ["Price per million tokens"], ["Priority", "n"], ["Standard", "n"], ["Batch", "n"], ["Oldest", "n"], ["Busy", "n"], ["Workers", "n"]],
      rows, "The catalogue has no models yet: cocoon models publish adds one."),
  ];
}

function workers() {
  const w = view.workers;
  const rows = w.workers.map((x) => {
    const last = x.reputation?.windows?.at(-1);
    const all = last ? last.succeeded + last.failed + last.lost : 0;
    const state = tag(x.state, { serving: "", starting: "warn", draining: "warn", disabled: "warn" }[x.state] ?? "bad");
    const actions = el("span", action("Drain", "/api/workers/steer", { worker: x.worker, order: { drain: true } }), " ",
      x.state === "disabled" ? action("Enable", "/api/workers/steer", { worker: x.worker, order: {} })
        : action("Disable", "/api/workers/steer", { worker: x.worker, order: { disabled: true } }));
    return [
      el("span", short(x.worker, 17), el("br"), el("span.soft", x.host ?? "")),
      el("span", state, x.reason ? el("div.soft", x.reason) : null),
      el("span", x.environment === "simulated" ? tag("simulated", "warn") : tag("attested"), el("div.soft", "until " + time(x.attested_until))),
      x.gpus?.length ? el("span", ...x.gpus.map((g) => el("div", g.name + (g.cc ? ", CC " + g.cc : "") + ", " + g.utilisation + " %, " + number(g.memory_used / 2 ** 20) + " of " + number(g.memory_total / 2 ** 20) + " MiB"))) : el("span.soft", "no GPU stated"),
      el("span", ...x.models.map((m) => el("div", m.route.slug, " ", m.busy + " / " + m.slots))),
      (x.ask / 10000).toFixed(2) + "×",
      number(x.done) + (x.failed ? " (" + number(x.failed) + " failed)" : ""),
      last ? el("span", tag(x.reputation.standing, { good: "", probation: "warn" }[x.reputation.standing] ?? "bad"),
        el("div.soft", all ? percent(Math.floor(last.succeeded * 10000 / all)) + " of " + number(all) + ", median " + span(last.median) + ", " + number(last.lost) + " lost" : "no jobs yet")) : el("span.soft", "none yet"),
      actions,
    ];
  });
  return [el("h1", "Workers"), problem(w),
    table([["Worker"], ["State", "wrap"], ["Evidence"], ["GPU, as stated"], ["Slots"], ["Ask", "n"], ["Jobs", "n"], ["Reputation"], ["Actions"]],
      rows, "No worker is online. cocoon worker starts one; cocoon doctor says why a host is refused.")];
}

function jobs() {
  const j = view.jobs;
  const rows = j.jobs.map((x) => {
    const stages = [["granted", x.granted], ["started", x.started], ["finished", x.finished], ["stored", x.stored]];
    const line = el("span.line", ...stages.map(([name, at]) => {
      const dot = document.createElement("i");
      if (!at) dot.className = "off";
      dot.title = name + " " + time(at);
      return dot;
    }));
    return [
      short(x.job, 12), short(x.tenant, 8), el("span", x.model.split("@")[0]), x.class ?? "–",
      tag(x.status + (x.kind ? ": " + x.kind : ""), { succeeded: "", cancelled: "warn", expired: "warn" }[x.status] ?? "bad"),
      line, x.granted ? span((new Date(x.stored) - new Date(x.granted)) * 1e6) : "–",
      x.worker ? short(x.worker, 8) : "–", x.attempt ?? "–",
      number(x.usage.prompt + x.usage.cached) + " → " + number(x.usage.completion + x.usage.reasoning), time(x.stored),
    ];
  });
  return [el("h1", "Jobs"), problem(j), el("p.soft", "The newest finished jobs, public attributes only. Times and tokens are as grant and receipt state them."),
    table([["Job"], ["Tenant"], ["Model"], ["Class"], ["Outcome"], ["Granted · started · finished · stored"], ["Took", "n"], ["Worker"], ["Attempt", "n"], ["Tokens", "n"], ["Stored"]],
      rows, "No job has finished yet.")];
}

function dead() {
  const d = view.dead;
  const rows = d.letters.map((x) => [
    String(x.seq), time(x.died), x.job ? short(x.job, 12) : "–", short(x.tenant ?? "", 8), x.route.slug, x.class,
    el("span", "kind " + x.kind, el("div.soft", x.reason)), String(x.deliveries), number(x.size) + " B",
    action("Replay", "/api/dead/replay", { seq: x.seq }),
  ]);
  return [el("h1", "Dead letters"), problem(d), el("p.soft", number(d.count) + " in all. Only sealed bytes and public attributes are kept; a replay keeps the job's id."),
    table([["Seq", "n"], ["Died"], ["Job"], ["Tenant"], ["Model"], ["Class"], ["Why", "wrap"], ["Tries", "n"], ["Size", "n"], ["Action"]],
      rows, "No dead letters. Jobs that fail on every attempt land here.")];
}

function money() {
  const m = view.money;
  if (m.absent) return [el("h1", "Money"), el("p.empty", "No settlement runs beside this dashboard.")];
  return [
    el("h1", "Money"), problem(m),
    ...(m.alerts ?? []).map((a) => { const p = el("p.problem", a); p.setAttribute("role", "alert"); return p; }),
    figures([["Held for tenants", ton(m.held)], ["Earned by owners", ton(m.earned)], ["Paid on chain", ton(m.paid)], ["Pending", ton(m.pending)], ["Network fees", ton(m.fees)]]),
    el("div.charts", chart("paid", "Paid on chain, TON")),
    el("p.soft", "Treasury ", short(m.treasury ?? "–", 66), m.chain ? " on " + m.chain : ""),
    el("h2", "Worker owners"),
    table([["Owner"], ["Earned", "n"], ["Paid", "n"], ["Pending", "n"]], (m.owners ?? []).map((o) => [short(o.owner, 20), ton(o.earned), ton(o.paid), ton(o.pending)]), "Nobody has earned anything yet."),
    el("h2", "Payout batches"),
    table([["Batch"], ["State"], ["Created"], ["Transfers", "n"], ["Amount", "n"], ["Statement root"], ["Transaction"]],
      (m.batches ?? []).map((b) => [b.id, tag(b.state, b.state === "done" ? "" : b.state === "expired" ? "bad" : "warn"), time(b.created), String(b.transfers), ton(b.amount), b.root ? short(b.root, 16) : "–", b.link ? short(b.link, 16) : "–"]),
      "No payout batch yet: balances wait for their threshold or age."),
  ];
}

function trust() {
  const t = view.trust;
  const doc = (name, d) => [name, String(d.version), d.hash ? short(d.hash, 20) : "–", String(d.signers), time(d.issued), el("span", new Date(d.expires) < Date.now() ? tag("expired", "bad") : time(d.expires))];
  return [
    el("h1", "Trust"), problem(t),
    el("p", "Environment ", tag(t.environment, t.environment === "production" ? "" : "warn"), " Root keys ", short(t.roots ?? "", 24)),
    el("h2", "Signed documents"),
    table([["Document"], ["Version", "n"], ["Hash"], ["Valid signatures", "n"], ["Issued"], ["Expires"]], [doc("Policy", t.policy), doc("Catalogue", t.catalogue)], ""),
    el("h2", "Admitted programs"),
    table([["Name"], ["Role"]], t.measurements.map((m) => [m.name, m.role]), "The policy admits nothing."),
    el("h2", "Keys that jobs are sealed to"),
    table([["Model", "wrap"], ["Key"], ["Epoch", "n"], ["Active until"], ["Broker"]], t.keys.map((k) => [k.model.split(":")[0], short(k.kid, 16), String(k.epoch), time(k.active_until), short(k.broker, 16)]), "No broker has published a key."),
  ];
}

// chart makes the frame of a chart; draw fills it once it is in the page.
function chart(series, title) {
  const box = el("div.chart", el("h3", title));
  box.dataset.series = series;
  box.setAttribute("role", "img");
  const values = view.history?.[series] ?? [];
  box.setAttribute("aria-label", title + ", now " + number(values.at(-1) ?? 0));
  return box;
}

function draw() {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  for (const box of document.querySelectorAll(".chart")) {
    const values = view.history?.[box.dataset.series];
    if (!values || values.length < 2) {
      if (!box.querySelector(".soft")) box.append(el("p.soft", "collecting"));
      continue;
    }
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const clock = { ...axis, space: 70, size: 24, values: (_, at) => at.map((t) => new Date(t * 1000).toTimeString().slice(0, 8)) };
    new uPlot({
      width: box.clientWidth - 26, height: 120, padding: [8, 34, 0, 0], legend: { show: false }, cursor: { show: false },
      scales: { y: { range: (_, min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [clock, { ...axis, size: 46 }],
      series: [{}, { points: { show: false }, stroke: colour("--accent"), fill: colour("--tint"), width: 1.5 }],
    }, [view.history.time, values], box);
  }
}

// action makes a button that asks for the token when it needs one and can not be pressed twice.
function action(label, path, body) {
  const button = el("button", label);
  button.type = "button";
  button.addEventListener("click", async () => {
    const token = await operatorToken();
    if (!token) return;
    button.disabled = true;
    try {
      const r = await fetch(path, { method: "POST", headers: { Authorization: "Bearer " + token, "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const answer = await r.json();
      if (r.status === 403) sessionStorage.removeItem("token");
      toast(r.ok ? label + ": done" : label + ": " + answer.error.message);
    } catch {
      toast(label + ": the dashboard cannot be reached; nothing is known, look before trying again");
    }
    setTimeout(() => { button.disabled = false; }, 1500);
  });
  return button;
}

function operatorToken() {
  const known = sessionStorage.getItem("token");
  if (known) return Promise.resolve(known);
  const dialog = document.getElementById("token");
  const input = document.getElementById("token-value");
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "ok" || !input.value) return resolve("");
    sessionStorage.setItem("token", input.value);
    resolve(input.value);
  }, { once: true }));
}

function toast(text) {
  const t = document.getElementById("toast");
  t.textContent = text;
  t.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { t.hidden = true; }, 5000);
}

// render redraws the page in place. It waits while the keyboard focus is on a button inside, so that a live update
// never takes the focus away.
function render() {
  if (!view.network || main.contains(document.activeElement) && document.activeElement !== main) return;
  const page = pages[location.pathname] ?? network;
  document.getElementById("banner").hidden = (view.trust?.environment ?? view.network.environment) !== "simulated";
  for (const a of document.querySelectorAll("nav a")) {
    if (a.pathname === location.pathname) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
  }
  const scroll = [...main.querySelectorAll(".scroll")].map((s) => s.scrollLeft);
  main.replaceChildren(...page().filter(Boolean));
  main.querySelectorAll(".scroll").forEach((s, i) => { s.scrollLeft = scroll[i] ?? 0; });
  document.title = main.querySelector("h1").textContent + " · Cocoon";
  draw();
}

document.addEventListener("click", (e) => {
  const a = e.target.closest("nav a, a.brand");
  if (!a || e.metaKey || e.ctrlKey || e.shiftKey) return;
  e.preventDefault();
  history.pushState(null, "", a.pathname);
  main.focus({ preventScroll: true });
  render();
});
addEventListener("popstate", render);
addEventListener("resize", render);
main.addEventListener("focusout", () => setTimeout(render, 0));

const live = document.getElementById("live");
let pending = false;
function connect() {
  const events = new EventSource("/api/events");
  events.onopen = () => { live.textContent = "live"; live.dataset.state = "live"; };
  events.onerror = () => { live.textContent = "connection lost, trying again"; live.dataset.state = "lost"; };
  for (const name of ["network", "workers", "jobs", "dead", "money", "trust", "history"]) {
    events.addEventListener(name, (e) => {
      view[name] = JSON.parse(e.data);
      if (pending) return;
      pending = true;
      requestAnimationFrame(() => { pending = false; render(); });
    });
  }
}
connect();
