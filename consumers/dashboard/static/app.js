// The core of the dashboard: live data, elements, tables, charts and actions. pages.js has the pages. Every value from the
// network reaches the page as text, never as markup.
"use strict";

// view holds, per section, a head and rows by key, as the server sent them.
const view = {};
const main = document.getElementById("main");
const live = document.getElementById("live");
// ui is what the reader has chosen on each page: filter, sorting, page of a table, open rows.
const ui = {};
const mine = () => (ui[location.pathname] ??= { filter: "", chip: "", sort: {}, page: {}, open: new Set() });
const head = (name) => view[name]?.head ?? {};
const rows = (name) => [...(view[name]?.rows.values() ?? [])];

// el makes an element: el("td.n", {title: "x"}, "text", child, …).
function el(spec, ...children) {
  const [tag, ...classes] = spec.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  const attributes = children[0]?.constructor === Object ? children.shift() : {};
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

// morph makes one tree look like another and keeps the nodes that stay, with focus, selection and scroll.
function morph(from, to) {
  if (from.nodeType === Node.TEXT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  for (const { name, value } of [...to.attributes]) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  if (to.dataset.keep === undefined) morphChildren(from, to);
}

function morphChildren(from, to) {
  const keyed = new Map();
  for (const c of from.children) if (c.dataset.key !== undefined) keyed.set(c.dataset.key, c);
  const focused = document.activeElement;
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    const key = next.dataset?.key;
    const same = (n) => n && n.nodeName === next.nodeName && n.dataset?.key === key;
    const match = key !== undefined && same(keyed.get(key)) ? keyed.get(key) : key === undefined && same(at) ? at : null;
    if (!match) { from.insertBefore(next, at); continue; }
    if (match === at) at = at.nextSibling; else from.insertBefore(match, at);
    morph(match, next);
  }
  while (at) { const n = at.nextSibling; at.remove(); at = n; }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

// Figures and times.

const number = (n) => Number(n ?? 0).toLocaleString("en-US", { maximumFractionDigits: n > 0 && n < 10 ? 2 : 0 });
const compact = (n) => n < 10000 ? number(n) : Number(n).toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 1 });
const percent = (bp) => (bp / 100).toFixed(bp % 100 ? 2 : 0) + " %";

// digitsOf spells integer nanoTON, given as a string of digits, without ever making it a float: at most `places` digits after
// the point, nothing rounded up.
function decimal(nano, places = 9) {
  const text = String(nano ?? "0"), digits = text.replace("-", "").padStart(10, "0");
  const frac = digits.slice(-9).slice(0, places).replace(/0+$/, "");
  const whole = BigInt(digits.slice(0, -9));
  if (places < 9 && whole === 0n && frac === "" && BigInt(digits) > 0n) return "<0." + "0".repeat(places - 1) + "1";
  return (text.startsWith("-") ? "-" : "") + whole.toLocaleString("en-US") + (frac ? "." + frac : "");
}
// ton shows an amount short and tells all of it to the pointer.
const ton = (nano, places = 4) => el("span.ton", { title: decimal(nano) + " TON" }, decimal(nano, places), el("small", " TON"));

function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (n < 1024 || unit === "TiB") return (n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)) + " " + unit;
    n /= 1024;
  }
}

// span spells nanoseconds.
function span(ns) {
  const s = ns / 1e9;
  if (!s) return "–";
  if (s < 1) return Math.round(s * 1000) + " ms";
  return s < 10 ? s.toFixed(1) + " s" : lasts(s);
}

function lasts(s) {
  if (s < 120) return Math.round(s) + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  return s < 172800 ? Math.round(s / 3600) + " h" : Math.round(s / 86400) + " days";
}

// skew is how far the server's clock is ahead of ours, in ms.
let skew = 0;
const clock = () => Date.now() + skew;
const seconds = (at) => (clock() - new Date(at)) / 1000;
const relative = (at) => { const s = seconds(at); return s >= 0 ? lasts(s) + " ago" : "in " + lasts(-s); };
const absolute = (at) => new Date(at).toLocaleString("sv-SE");

// ago shows a time relative to now; it goes on by itself. since shows only how long it has been.
function ago(at) {
  return at ? el("time", { datetime: at, title: absolute(at), "data-rel": "ago" }, relative(at)) : "–";
}
function since(at) {
  return at ? el("time", { datetime: at, title: absolute(at), "data-rel": "since" }, lasts(Math.max(0, seconds(at)))) : "–";
}
setInterval(() => {
  for (const t of main.querySelectorAll("time[data-rel]")) {
    const text = t.dataset.rel === "ago" ? relative(t.dateTime) : lasts(Math.max(0, seconds(t.dateTime)));
    if (t.textContent !== text) t.textContent = text;
  }
}, 1000);

// Pieces.

const tag = (text, kind, title) => el(kind ? "span.tag." + kind : "span.tag", { title }, text);
const soft = (...children) => el("span.soft", ...children);
const short = (s, n = 10) => !s ? "–" : el("span.mono", { title: s }, s.length > n + 1 ? s.slice(0, n) + "…" : s);
// hash shows the beginning of a hash without its algorithm.
const hash = (s, n = 10) => !s ? "–" : el("span.mono", { title: s }, s.replace(/^sha256-/, "").slice(0, n) + "…");
const lines = (...list) => el("div.lines", ...list.filter(Boolean).map((l) => el("div", l)));
const meter = (part, whole, label) => el("div.meter", { role: "img", "aria-label": label ?? part + " of " + whole, title: label ?? part + " of " + whole },
  el("i", { style: "width:" + (whole > 0 ? Math.min(100, Math.round(100 * part / whole)) : 0) + "%" }));

function figures(list) {
  return el("dl.figures", ...list.filter(Boolean).map(([name, value, note]) => el("div", { "data-key": name },
    el("dt", name), el("dd", value), note ? el("dd.soft", note) : null)));
}

// problem says since when a section is old, and why.
function problem(name) {
  const section = head(name);
  if (!section.problem) return null;
  return el("p.problem", { role: "alert", "data-key": "problem-" + name }, "Shown as of ", section.since ? absolute(section.since) : "before", ": " + section.problem);
}

const empty = (title, ...teach) => el("div.empty", el("strong", title), ...teach.map((t) => el("p", t)));
const code = (text) => el("code", text);
const card = (title, ...children) => el("section.card", el("h3", title), ...children);
const facts = (pairs) => el("dl.facts", ...pairs.filter((p) => p && p[1] !== undefined && p[1] !== null).map(([k, v]) => el("div", el("dt", k), el("dd", v))));

// toolbar is a search field with chips that narrow a table.
function toolbar(placeholder, chips = []) {
  const state = mine();
  return el("div.toolbar", { "data-key": "toolbar" },
    el("input", { type: "search", placeholder, "aria-label": placeholder, "data-act": "filter", value: state.filter, maxlength: 100 }),
    ...chips.map(([value, label, n]) => el("button.chip", { type: "button", "data-act": "chip", "data-arg": value, "aria-pressed": String(state.chip === value) }, label, n === undefined ? null : el("b", number(n)))));
}

const perPage = 50;

// table shows rows in columns that sort: {title, kind, cell(row), sort(row)}. o.key names a row, o.detail opens below it, o.text
// is what the search looks into.
function table(id, columns, list, o) {
  const state = mine();
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const all = list.length;
  if (words.length && o.text) list = list.filter((r) => { const t = o.text(r).toLowerCase(); return words.every((w) => t.includes(w)); });
  const by = state.sort[id];
  if (by && columns[by.column]?.sort) {
    const value = columns[by.column].sort;
    list = [...list].sort((a, b) => { const x = value(a), y = value(b); return (x < y ? -1 : x > y ? 1 : 0) * by.way; });
  }
  if (!list.length) return all ? empty("Nothing matches", "Clear the search to see all " + number(all) + ".") : o.empty;
  const pages = Math.ceil(list.length / perPage), page = Math.min(state.page[id] ?? 0, pages - 1);
  const shown = list.slice(page * perPage, (page + 1) * perPage);
  const titles = columns.map((c, i) => {
    const sorted = by?.column === i ? (by.way > 0 ? "ascending" : "descending") : null;
    return el("th" + (c.kind ? "." + c.kind : ""), { scope: "col", "aria-sort": sorted },
      c.sort ? el("button.sort", { type: "button", "data-act": "sort", "data-arg": id + " " + i }, c.title, el("i", { "aria-hidden": "true" }, sorted === "ascending" ? "↑" : sorted ? "↓" : "")) : c.title);
  });
  const body = shown.flatMap((r) => {
    const key = o.key(r), open = o.detail && state.open.has(key);
    const cells = columns.map((c, i) => {
      const cell = c.cell(r);
      return el("td" + (c.kind ? "." + c.kind : ""), i === 0 && o.detail
        ? el("div.first", el("button.open", { type: "button", "data-act": "open", "data-arg": key, "aria-expanded": String(open), "aria-label": "Details of " + key }), el("div", cell))
        : cell);
    });
    const line = el("tr", { "data-key": key, class: o.dim?.(r) ? "dim" : null }, ...cells);
    return open ? [line, el("tr.detail", { "data-key": key + " detail" }, el("td", { colspan: columns.length }, el("div.pane", o.detail(r))))] : [line];
  });
  return el("div.tablebox", { "data-key": id },
    el("div.scroll", { tabindex: 0, role: "region", "aria-label": o.label }, el("table", el("thead", el("tr", ...titles)), el("tbody", ...body))),
    pages > 1 ? el("div.pager", soft(number(page * perPage + 1) + "–" + number(page * perPage + shown.length) + " of " + number(list.length)),
      el("button", { type: "button", "data-act": "page", "data-arg": id + " " + (page - 1), disabled: page === 0 }, "Previous"),
      el("button", { type: "button", "data-act": "page", "data-arg": id + " " + (page + 1), disabled: page === pages - 1 }, "Next")) : null);
}

// Charts. Their frames stay in the page; draw fills and renews them.

// chart makes the frame of a chart of the history: [[field, label], …].
function chart(title, series, now, height = 110) {
  return el("figure.chart", { "data-height": height, "data-key": "chart " + title, "data-series": series.map((s) => s[0]).join(" "), role: "img", "aria-label": title + ", now " + now },
    el("figcaption", title, el("b", now)), el("div.plot", { "data-keep": true }));
}

const plots = new Map(); // by frame
const palette = () => { const css = getComputedStyle(document.documentElement); return (name) => css.getPropertyValue(name).trim(); };

function draw() {
  for (const [box, plot] of plots) if (!box.isConnected) { plot.destroy(); plots.delete(box); }
  const points = [...(view.history?.rows.entries() ?? [])].sort((a, b) => a[0] < b[0] ? -1 : 1).map((e) => e[1]);
  for (const frame of document.querySelectorAll(".chart[data-series]")) {
    const fields = frame.dataset.series.split(" ");
    const data = [points.map((p) => p.t), ...fields.map((f) => points.map((p) => p[f]))];
    plot(frame, data, () => fields.map((_, i) => ({ points: { show: false }, stroke: palette()(i ? "--soft" : "--accent"), fill: i ? undefined : palette()("--tint"), width: i ? 1 : 1.5, dash: i ? [4, 4] : undefined })), { height: Number(frame.dataset.height) });
  }
  for (const frame of document.querySelectorAll(".chart[data-earnings]")) plotEarnings(frame);
}

// plot draws data into a frame, or renews what is drawn.
function plot(frame, data, series, more = {}) {
  const box = frame.querySelector(".plot");
  const have = plots.get(box), width = box.clientWidth;
  if (data[0].length < 2) { if (!box.firstChild) box.append(el("p.soft", "collecting")); return; }
  if (have && have.series.length === data.length) {
    if (have.width !== width) have.setSize({ width, height: have.height });
    have.setData(data);
    return;
  }
  have?.destroy();
  box.replaceChildren();
  const css = palette();
  const axis = { stroke: css("--soft"), font: "11px system-ui, sans-serif", grid: { stroke: css("--line"), width: 1 }, ticks: { show: false } };
  plots.set(box, new uPlot({
    width, height: more.height ?? 110, padding: [6, 16, 0, 0], legend: { show: false }, cursor: { show: false },
    scales: { y: { range: (_, min, max) => [0, max > 0 ? max * 1.08 : 1] } },
    axes: [{ ...axis, space: 64, size: 20, grid: { show: false }, values: (_, at, _axis, _space, step) => at.map((t) => new Date(t * 1000).toTimeString().slice(0, step < 60 ? 8 : 5)) },
      { ...axis, space: 24, size: 42, values: (_, at) => at.map((v) => compact(v)) }],
    series: [{}, ...series()],
  }, data, box));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const p of plots.values()) p.destroy(); plots.clear(); for (const b of document.querySelectorAll(".plot")) b.replaceChildren(); render(); });

// Actions. A button is one exact thing; while it is on its way, and after it was done, it cannot be pressed again.

const asked = new Map(); // what was asked, by path and body: "asked", "sent" or "done"

// action makes a button; what says what will happen.
function action(label, path, body, what) {
  const arg = JSON.stringify({ label, path, body, what }), state = asked.get(path + JSON.stringify(body));
  return el("button", { type: "button", "data-act": "do", "data-arg": arg, disabled: state !== undefined }, state === "done" ? label + ": done" : label);
}

async function act({ label, path, body, what }) {
  const key = path + JSON.stringify(body);
  if (asked.has(key)) return;
  asked.set(key, "asked"); // until it is answered nobody can ask it again
  const token = await confirmAction(label, what);
  if (!token) { asked.delete(key); render(); return; }
  asked.set(key, "sent");
  render();
  let state, text;
  try {
    const r = await fetch(path, { method: "POST", headers: { Authorization: "Bearer " + token, "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const answer = await r.json();
    if (r.status === 403) sessionStorage.removeItem("token");
    state = r.ok ? "done" : undefined;
    text = r.ok ? label + ": done" : label + ": " + answer.error.message;
  } catch {
    text = label + ": the dashboard cannot be reached; nothing is known, look before trying again";
  }
  toast(text, state === "done");
  if (state) asked.set(key, state); else asked.delete(key);
  if (state) setTimeout(() => { asked.delete(key); render(); }, 10000); // an order may be given again later
  render();
}

// confirmAction says what will happen and asks for the token where none is known; "" when the reader does not want it.
function confirmAction(label, what) {
  const known = sessionStorage.getItem("token");
  const dialog = document.getElementById("token"), input = document.getElementById("token-value");
  document.getElementById("token-title").textContent = label;
  document.getElementById("token-what").textContent = what;
  document.getElementById("token-ok").textContent = label;
  document.getElementById("token-field").hidden = Boolean(known);
  input.required = !known;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  if (known) document.getElementById("token-ok").focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    const token = known ?? input.value;
    if (dialog.returnValue !== "ok" || !token) return resolve("");
    sessionStorage.setItem("token", token);
    resolve(token);
  }, { once: true }));
}
// Enter in the token field means yes, not the first button.
document.getElementById("token-value").addEventListener("keydown", (e) => {
  if (e.key === "Enter") { e.preventDefault(); document.getElementById("token-ok").click(); }
});

function toast(text, good) {
  const t = document.getElementById("toast");
  t.textContent = text;
  t.dataset.state = good ? "good" : "bad";
  t.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { t.hidden = true; }, 6000);
}

// What the reader does.

const acts = {
  open: (key) => { const open = mine().open; if (!open.delete(key)) open.add(key); },
  sort: (arg) => { const [id, column] = arg.split(" "), s = mine().sort, c = Number(column); s[id] = { column: c, way: s[id]?.column === c ? -s[id].way : -1 }; },
  page: (arg) => { const [id, page] = arg.split(" "); mine().page[id] = Number(page); },
  chip: (value) => { const m = mine(); m.chip = m.chip === value ? "" : value; m.page = {}; },
  do: (arg) => { act(JSON.parse(arg)); },
};

document.addEventListener("click", (e) => {
  const a = e.target.closest("nav a, a.brand, a[data-page]");
  if (a && !e.metaKey && !e.ctrlKey && !e.shiftKey) {
    e.preventDefault();
    if (a.pathname !== location.pathname) history.pushState(null, "", a.pathname);
    go();
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
    return;
  }
  const button = e.target.closest("[data-act]");
  if (button && !button.disabled && acts[button.dataset.act]) {
    acts[button.dataset.act](button.dataset.arg);
    render();
    return;
  }
  const row = e.target.closest("tbody tr"); // a click anywhere in a row opens it, unless text is being selected
  if (row && !e.target.closest("a, button, input") && !String(getSelection())) row.querySelector("button.open")?.click();
});
document.addEventListener("input", (e) => {
  if (e.target.dataset.act !== "filter") return;
  mine().filter = e.target.value;
  mine().page = {};
  render();
});
addEventListener("popstate", go);
addEventListener("resize", () => render());

// Drawing. However often something changes, the page is drawn a few times a second at most.

let drawn = 0, planned = 0;
function changed() {
  if (planned) return;
  planned = setTimeout(() => { planned = 0; requestAnimationFrame(render); }, Math.max(0, 300 - (performance.now() - drawn)));
}

function render() {
  drawn = performance.now();
  const page = pages[location.pathname] ?? pages["/"];
  document.getElementById("banner").hidden = (head("network").environment ?? head("trust").environment) !== "simulated";
  const dead = document.getElementById("dead-count"), letters = head("network").dead_letters ?? 0;
  dead.hidden = !letters;
  dead.textContent = compact(letters);
  for (const a of document.querySelectorAll("nav a")) {
    if (a.pathname === location.pathname) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
  }
  if (!page.sections.every((s) => view[s])) return;
  const next = el("main");
  next.append(...page.show().flat().filter(Boolean));
  morphChildren(main, next);
  document.title = main.querySelector("h1").textContent + " · Cocoon";
  draw();
}

// Live data. A stream brings the sections of the page at hand; another page opens another stream.

let stream, lostAt = 0, retry = 0, version = "";

function go() {
  const page = pages[location.pathname] ?? pages["/"];
  stream?.close();
  clearTimeout(retry);
  const events = new EventSource("/api/events?sections=" + [...new Set(["network", ...page.sections])].join(","));
  stream = events;
  events.onopen = () => { lostAt = 0; live.textContent = "live"; live.dataset.state = "live"; stale(); };
  events.onerror = () => {
    lostAt ||= Date.now();
    live.textContent = "connection lost, trying again";
    live.dataset.state = "lost";
    stale();
    if (events.readyState === EventSource.CLOSED) retry = setTimeout(go, 3000); // refused: the browser does not try again by itself
  };
  events.addEventListener("hello", (e) => {
    const hello = JSON.parse(e.data);
    skew = new Date(hello.now) - Date.now();
    if (Math.abs(skew) < 2000) skew = 0;
    view.server = { head: hello, rows: new Map() };
    if (version && version !== hello.version) location.reload(); // the server was started anew with other pages
    version = hello.version;
  });
  for (const name of ["network", "workers", "refusals", "jobs", "batches", "dead", "money", "trust", "history"]) {
    events.addEventListener(name, (e) => { if (events === stream) apply(name, JSON.parse(e.data)); });
  }
  render();
}

// A page that nobody sees holds no stream: a browser allows only a few for each server.
function rest() {
  stream?.close();
  clearTimeout(retry);
  live.textContent = "paused";
  live.dataset.state = "paused";
}
addEventListener("pagehide", rest);
addEventListener("pageshow", (e) => { if (e.persisted) go(); });
document.addEventListener("visibilitychange", () => { if (document.hidden) rest(); else go(); });

function apply(name, delta) {
  const section = (view[name] ??= { head: {}, rows: new Map() });
  if (delta.whole) section.rows.clear();
  if (delta.head) section.head = delta.head;
  for (const key of delta.gone ?? []) section.rows.delete(key);
  for (const [key, row] of Object.entries(delta.rows ?? {})) section.rows.set(key, row);
  section.rows = new Map(section.rows); // another one: what was derived from the old one is old
  changed();
}

function stale() {
  const bar = document.getElementById("stale");
  bar.hidden = !lostAt;
  if (lostAt) bar.textContent = "The dashboard's server does not answer. What you see is of " + new Date(lostAt).toTimeString().slice(0, 8) + "; it goes on by itself when the server is back.";
}
