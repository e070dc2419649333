// The console: shows what the public interface tells, and asks it to act. Nothing else.
"use strict";

const EVERY_MS = 2000;
const ROWS_MAX = 50;
const at = (id) => document.getElementById(id);

// Elements with text; never HTML from outside.
function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function cell(text, kind) {
  const known = text !== null && text !== undefined && text !== "";
  return element("td", known ? text : "–", kind);
}

function number(value, unit) {
  return cell(value === null || value === undefined ? null : unit ? `${value} ${unit}` : value, "number");
}

function rounded(value) {
  return value >= 100 ? Math.round(value) : Math.round(value * 10) / 10;
}

function time(text) {
  return text ? text.replace("T", " ").replace(/\.\d+Z$/, "Z") : null;
}

function fill(id, rows, nothing) {
  const body = at(id).tBodies[0];
  if (rows.length === 0) {
    const empty = element("td", nothing, "empty");
    empty.colSpan = at(id).tHead.rows[0].cells.length;
    const row = element("tr");
    row.append(empty);
    rows = [row];
  }
  body.replaceChildren(...rows.slice(0, ROWS_MAX));
}

function row(...cells) {
  const made = element("tr");
  made.append(...cells);
  return made;
}

async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// What is there to ask for depends on the service: a resource that is not there tells so.
const allowed = new Map();
async function allows(path, method) {
  if (!allowed.has(path)) {
    const answer = await fetch(path, { method: "OPTIONS" });
    allowed.set(path, answer.ok ? (answer.headers.get("allow") || "") : "");
  }
  return allowed.get(path).split(/\s*,\s*/).includes(method);
}

function tell(text) {
  at("told").textContent = text;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { at("told").textContent = ""; }, 8000);
}

// Resolves to false, or to what was chosen: members of a body.
function confirmed(question, choices = {}) {
  const dialog = at("confirm");
  dialog.querySelector("p").textContent = question;
  const selects = Object.entries(choices).map(([name, values]) => {
    const select = element("select");
    select.name = name;
    select.append(...values.map((value) => new Option(value, value)));
    return select;
  });
  dialog.querySelector("#choices").replaceChildren(...selects);
  const chosen = () => Object.fromEntries(selects.map((select) => [select.name, select.value]));
  // Not by its `close`: that of the question before may still be on its way.
  return new Promise((done) => {
    dialog.querySelector("form").onsubmit =
      (event) => done(event.submitter.value === "yes" && chosen());
    dialog.oncancel = () => done(false);
    dialog.showModal();
  });
}

function once() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function act(name, method, path, question, options) {
  const chosen = await confirmed(question, options.choices);
  if (!chosen) return;
  const body = options.body || options.choices ? { ...options.body, ...chosen } : undefined;
  try {
    const headers = { accept: "application/json", "idempotency-key": once() };
    if (body) headers["content-type"] = "application/json";
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) return tell(`${name}: ${told.detail || told.title || answer.status}`);
    tell(`${name}: done`);
    if (answer.status === 202 && told.operation) follow(name, told.operation);
  } catch (error) {
    tell(`${name}: ${error.message}`);
  }
  refresh();
}

async function follow(name, path) {
  tell(`${name}: running`);
  const operation = await ask(path).catch(() => null);
  const state = operation && operation.state;
  if (state === "running") return setTimeout(() => follow(name, path), 1000);
  tell(`${name}: ${state || "ended"}${operation && operation.message ? ` (${operation.message})` : ""}`);
  refresh();
}

async function button(into, name, method, path, question, options = {}) {
  if (!await allows(options.probe || path, method)) return;
  const made = element("button", name, options.grave ? "act" : "");
  made.addEventListener("click", () => act(name, method, path, question, options));
  into.append(made);
}

// Whoever may have slots: all of one master, or as many as is fair besides all of them.
async function promotions(actions, one, masters) {
  const { name, role, state } = one;
  const path = `/admin/partitions/${encodeURIComponent(name)}/promote`;
  const from = masters.filter((master) => master !== name);
  if (state !== "active" || !["master", "replica"].includes(role) || from.length === 0) return;
  const pause = "They pause for a moment; nothing is lost.";
  await button(actions, "promote", "POST", path,
    `Let ${name} take all writes of this master? ${pause}`, { grave: true, choices: { from } });
  if (role === "replica") {
    await button(actions, "share", "POST", path,
      `Let ${name} take its share of the writes of ${from.join(", ")}? ${pause}`,
      { grave: true, body: { share: true } });
  }
}

async function partitionActions(one, paused, masters) {
  const actions = element("td", undefined, "actions");
  const path = `/admin/partitions/${encodeURIComponent(one.name)}`;
  const target = `target=${encodeURIComponent(one.name)}`;
  const name = one.name;
  if (paused.has(name)) {
    await button(actions, "resume", "POST", `/admin/sync/resume?${target}`,
      `Let ${name} pull changes again?`, { probe: "/admin/sync/resume" });
  } else {
    await button(actions, "pause", "POST", `/admin/sync/pause?${target}`,
      `Let ${name} pull no changes until it is resumed? It stays as old as it is.`,
      { probe: "/admin/sync/pause" });
  }
  await promotions(actions, one, masters);
  if (one.role === "copy") {
    await button(actions, "crash", "POST", `${path}/crash`,
      `Crash ${name} on purpose, with SIGKILL? Another one takes its place.`, { grave: true });
  }
  if (one.state !== "retired") {
    await button(actions, "remove", "DELETE", path, one.role === "copy"
      ? `Remove ${name}? It is drained first.`
      : `Remove ${name}? Its slots are handed over first, and its database is emptied.`,
      { grave: true });
  }
  return actions;
}

function stateCell(state) {
  const kind = state === "active" ? "good" : state === "down" || state === "quarantined" ? "bad" : "";
  return cell(state, `state ${kind}`);
}

async function showPartitions(list, rates, paused) {
  const masters = list.filter((one) => one.slots > 0).map((one) => one.name);
  const shown = await Promise.all(list.map(async (one) => {
    const name = cell(one.name);
    name.title = one.url || "";
    if (one.trouble) name.append(element("div", one.trouble, "trouble"));
    const rate = rates.get(one.name);
    return row(name, cell(one.engine), cell(one.role), stateCell(one.state), number(one.slots),
      number(one.lag), number(one.age_ms, "ms"),
      number(one.answer_ms === null ? null : rounded(one.answer_ms), "ms"),
      number(rate === undefined ? null : rounded(rate)), await partitionActions(one, paused, masters));
  }));
  fill("partitions", shown, "none");
}

function showFigures(performance) {
  const figure = (value, name) => {
    const made = element("div", undefined, "figure");
    made.append(element("b", value), element("span", name));
    return made;
  };
  at("figures").replaceChildren(
    figure(rounded(performance.request_rate), "requests/s"),
    figure(`${rounded(performance.throughput / 1024)} KiB`, "throughput/s"),
    figure(`${rounded(performance.response_time_p50)} ms`, "response time, median"),
    figure(`${rounded(performance.response_time_p99)} ms`, "response time, p99"),
    figure(rounded(performance.error_rate), "errors/s"));
}

function showSync(report) {
  fill("sync", report.pairs.map((pair) => row(cell(pair.target), cell(pair.source),
    number(pair.rows), number(pair.lag), number(pair.age_ms, "ms"), number(pair.took_ms, "ms"),
    cell(pair.error || (pair.seeding ? "is being seeded" : pair.paused ? "paused" : ""),
      pair.error ? "trouble" : ""))), "nothing to copy from anywhere");
}

function showFrontends(list) {
  fill("frontends", list.map((one) => row(
    cell(one.is_self ? `${one.address} (this one)` : one.address), cell(one.version),
    cell(time(one.started_at)), number(one.silent_ms, "ms"), number(one.following))), "none");
}

function showHistory(decisions, history) {
  // The newest first; of one instant, what was told last.
  const what = (one) => `${one.action}${one.partition ? ` ${one.partition}` : ""}: ${one.outcome}`;
  const told = decisions.map((one) => [one.at, one.kind, what(one), one.reason])
    .concat(history.map((one) => [one.time, "service", one.state, one.reason]))
    .reverse()
    .sort((a, b) => String(b[0]).localeCompare(String(a[0])));
  fill("history", told.map(([when, kind, what, why]) =>
    row(cell(time(when)), cell(kind), cell(what), cell(why))), "nothing was decided yet");
}

function showConflicts(list) {
  fill("conflicts", list.map((one) => row(cell(one.key || one.key_base64), cell(one.version),
    cell(one.origin), cell(time(one.noted_at)))), "none");
}

async function setActions() {
  const actions = at("set-actions");
  actions.replaceChildren();
  await button(actions, "sync now", "POST", "/admin/sync?wait=30s", "Run a round of sync now?",
    { probe: "/admin/sync" });
  await button(actions, "verify", "POST", "/admin/verify",
    "Compare all partitions, and put right what differs?");
  await button(actions, "add a read copy", "POST", "/admin/partitions",
    "Add a read copy?", { body: { count: 1 } });
}

const optional = (path, otherwise) => ask(path).catch(() => otherwise);

async function refresh() {
  clearTimeout(refresh.timer);
  try {
    // What lies in the partitions cannot be told where no master answers.
    const [partitions, performance, sync, frontends, service, history, decisions, conflicts] =
      await Promise.all([ask("/admin/partitions"), ask("/admin/service/performance"),
        ask("/admin/sync"), ask("/admin/frontends"), optional("/admin/service", null),
        optional("/admin/service/history", { history: [] }),
        optional("/admin/decisions", { decisions: [] }),
        optional("/admin/conflicts", { conflicts: [] })]);
    const rates = new Map(performance.partitions.map((one) => [one.name, one.request_rate]));
    const paused = new Set(sync.pairs.filter((pair) => pair.paused).map((pair) => pair.target));
    at("service").textContent = service
      ? `${service.state} · set ${service.set}` : `${partitions.partitions.length} partitions`;
    showFigures(performance);
    await showPartitions(partitions.partitions, rates, paused);
    showSync(sync);
    showFrontends(frontends.frontends);
    showHistory(decisions.decisions, history.history);
    showConflicts(conflicts.conflicts);
  } catch (error) {
    at("service").textContent = `no answer: ${error.message}`;
  }
  refresh.timer = setTimeout(refresh, EVERY_MS);
}

setActions();
refresh();
