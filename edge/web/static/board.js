// The board: what stands, worst first, live. Reads only the API beside it.
//
// Promises: what it shows is what stands, or it says loudly that it does not know. On each connection the stream is
// opened first and the list read after it, so no change falls between them; versions put the two in order. The stream
// is read with fetch, because EventSource hides the heartbeats that tell a silent line from a quiet night.
// Must not: put data anywhere but into textContent and attributes of its own.

import { REASONS, WORDS } from "./words.js";

const SEVERITIES = ["critical", "high", "medium", "low", "info"];
const SHOWN = 300; // cards; the rest is counted
const SILENCE_MS = 25_000; // two heartbeats and a half
const HEALTH_MS = 5_000;
const GAPS_MS = 60_000;
const DAY_MS = 86_400_000;
const RETRY_MS = [500, 1_000, 2_000, 4_000];

const NOTICES = ["embedded_broker", "rules_differ"]; // to know, but nothing is wrong

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((node) => [node.id, node]));
const cards = new Map();
const state = {
  language: chooseLanguage(), connection: "connecting", startedAt: Date.now(),
  alarms: new Map(), updatedAt: null, health: undefined, offsetMs: 0, version: null, gaps: 0,
};
let words = WORDS[state.language];
let renderAsked = false;

// --- language ---------------------------------------------------------------------------------------------------

function chooseLanguage() {
  const asked = new URLSearchParams(location.search).get("lang");
  let stored = null;
  try { stored = localStorage.getItem("language"); } catch { /* a browser without storage chooses anew each time */ }
  const wanted = [asked, stored, document.documentElement.dataset.language, navigator.language];
  return wanted.map((tag) => (tag ?? "").slice(0, 2)).find((tag) => tag in WORDS) ?? "en";
}

function switchLanguage() {
  state.language = state.language === "zh" ? "en" : "zh";
  try { localStorage.setItem("language", state.language); } catch { /* as above */ }
  const address = new URL(location);
  if (address.searchParams.has("lang")) {
    address.searchParams.set("lang", state.language);
    history.replaceState(null, "", address);
  }
  label();
  render();
}

function label() {
  words = WORDS[state.language];
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-text]")) write(node, words[node.dataset.text]);
  write(page.language, words.other);
  page.language.title = words.otherName;
  page.language.lang = state.language === "zh" ? "en" : "zh-CN";
  page.severities.replaceChildren(...SEVERITIES.map((severity) =>
    make("li", "", icon(severity), make("span", "", words.severity[severity]), make("b"))));
}

// --- words of values --------------------------------------------------------------------------------------------

function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const from = Math.max(0, parts.findIndex((part) => part > 0));
  const first = parts.every((part) => part === 0) ? 3 : from;
  return parts.slice(first, first + 2).map((part, i) => `${i ? String(part).padStart(2, "0") : part} ${words.units[first + i]}`).join(" ");
}

function clockTime(ms) {
  const date = new Date(ms);
  const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const day = { month: "short", day: "numeric" };
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(document.documentElement.lang, today ? time : { ...day, ...time });
}

function placeOf(alarm) {
  const parts = Object.entries(words.place).filter(([key]) => alarm.place[key]).map(([key, say]) => say(alarm.place[key]));
  return parts.join(words.gap) || words.noPlace;
}

function textOf(alarm) {
  return alarm.text[state.language] ?? alarm.text.en ?? Object.values(alarm.text)[0] ?? alarm.key;
}

function reasonOf(reason) {
  const [message, remedy] = REASONS[state.language][reason.code] ?? [reason.message, reason.remedy];
  return { message, remedy, original: message === reason.message ? "" : reason.message };
}

// --- the page ---------------------------------------------------------------------------------------------------

function make(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children); // strings become text nodes
  return node;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", name);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function ask() {
  if (renderAsked) return;
  renderAsked = true;
  requestAnimationFrame(() => { renderAsked = false; render(); });
}

// Hidden pages get no animation frames; a title that lags would still be wrong.
document.addEventListener("visibilitychange", () => render());

const raisedAt = (alarm) => Date.parse(alarm.raised_at);
const byUrgency = (a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity)
  || raisedAt(b) - raisedAt(a) || (a.id < b.id ? -1 : 1);

// Shelved, suppressed or folded into another alarm: on the board, but nobody is called for it alone.
const isQuiet = (alarm) => alarm.annunciated === false;

function render() {
  const all = [...state.alarms.values()].sort(byUrgency);
  const alarms = all.filter((alarm) => !isQuiet(alarm));
  const quiet = all.filter(isQuiet);
  renderHealth();
  write(page.total, state.updatedAt === null ? "" : String(alarms.length));
  SEVERITIES.forEach((severity, i) => {
    const count = alarms.filter((alarm) => alarm.severity === severity).length;
    page.severities.children[i].className = count ? "" : "none";
    write(page.severities.children[i].lastChild, state.updatedAt === null ? "–" : String(count));
  });
  const shown = alarms.slice(0, SHOWN);
  const hushed = page.quiet.open ? quiet.slice(0, SHOWN) : []; // not drawn while nobody looks
  const kept = new Set([...shown, ...hushed].map((alarm) => alarm.id));
  for (const [id, card] of cards) if (!kept.has(id)) { card.node.remove(); cards.delete(id); }
  lay(page.list, shown);
  lay(page.hushed, hushed);
  page.quiet.hidden = !quiet.length;
  write(page.quiet.firstElementChild, words.quiet(quiet.length));
  page.more.hidden = alarms.length <= SHOWN;
  write(page.more, words.more(alarms.length - SHOWN));
  tick();
}

function lay(list, alarms) {
  alarms.forEach((alarm, i) => {
    const card = cards.get(alarm.id) ?? { node: make("li") };
    cards.set(alarm.id, card);
    if (card.alarm !== alarm || card.language !== state.language) fill(card, alarm);
    if (list.children[i] !== card.node) list.insertBefore(card.node, list.children[i] ?? null);
  });
}

function fill(card, alarm) {
  const again = card.alarm && alarm.occurrences > card.alarm.occurrences;
  const fresh = again || (!card.alarm && Date.now() + state.offsetMs - raisedAt(alarm) < 5_000);
  Object.assign(card, { alarm, language: state.language });
  const severity = SEVERITIES.includes(alarm.severity) ? alarm.severity : "info";
  card.node.className = ["alarm", severity, alarm.state, waits(alarm) && "waiting", fresh && "fresh"].filter(Boolean).join(" ");
  const open = card.node.querySelector(".members")?.open; // who reads the list keeps it
  card.age = make("span", "age");
  const since = make("time", "", words.since(clockTime(raisedAt(alarm))));
  since.dateTime = alarm.raised_at;
  const device = `${words.kind[alarm.kind] ?? alarm.kind} ${alarm.device}${alarm.track ? ` / ${alarm.track}` : ""}`;
  card.node.replaceChildren(
    make("div", "badge", icon(severity), make("span", "", words.severity[alarm.severity] ?? alarm.severity)),
    make("div", "body", make("h2", "", textOf(alarm)), make("p", "where", placeOf(alarm)), make("p", "device", device), tagsOf(alarm), ...membersOf(alarm)),
    make("div", "when", card.age, since),
  );
  if (open) card.node.querySelector(".members")?.setAttribute("open", "");
}

// For a person. Medium and less leave by themselves, unless they are over and still here.
function waits(alarm) {
  return ["rtn_unacked", "latched_unacked"].includes(alarm.state)
    || (alarm.state === "unacked" && ["critical", "high"].includes(alarm.severity));
}

function tagsOf(alarm) {
  const tags = make("ul", "tags", make("li", waits(alarm) ? "strong" : "", words.state[alarm.state]?.(alarm) ?? alarm.state));
  const add = (className, text) => tags.append(make("li", className, text));
  if (alarm.cancelled_at) add("caution", words.cancelled(clockTime(Date.parse(alarm.cancelled_at))));
  if (alarm.occurrences > 1) add("", `${words.times(alarm.occurrences)} · ${words.first(clockTime(Date.parse(alarm.first_raised_at)))}`);
  if (alarm.comment) add("", words.comment(alarm.acked_by ?? words.someone, alarm.comment));
  if (alarm.suppressed_by) add("", words.because(nameOf(alarm.suppressed_by)));
  if (alarm.folded_into && isQuiet(alarm)) add("", words.folded);
  if (alarm.shelved_until) add("", words.until(clockTime(Date.parse(alarm.shelved_until))));
  if (alarm.chattering) add("caution", words.chattering);
  if (alarm.outcome) add(alarm.outcome === "forced" ? "caution" : "", words.outcome[alarm.outcome] ?? alarm.outcome);
  if (alarm.drill) add("caution", words.drill);
  if (alarm.late) add("caution", words.late);
  if (alarm.superseded) add("caution", words.superseded[alarm.superseded]);
  if (!alarm.durable) add("caution", words.fragile);
  return tags;
}

// A key is rule:site/kind/device, and /track where there is one.
function nameOf(key) {
  const [, kind, device] = key.slice(key.indexOf(":") + 1).split("/");
  const standing = [...state.alarms.values()].find((alarm) => alarm.key === key);
  return standing ? textOf(standing) : `${words.kind[kind] ?? kind} ${device}`;
}

function membersOf(alarm) {
  if (!alarm.members?.length) return [];
  const known = new Map([...state.alarms.values()].map((each) => [each.key, each]));
  const names = alarm.members.slice(0, SHOWN).map((key) => {
    const [, kind, device] = key.slice(key.indexOf(":") + 1).split("/");
    const severity = known.get(key)?.severity;
    return make("li", "", severity ? icon(severity) : "", make("span", "", `${words.kind[kind] ?? kind} ${device}`));
  });
  if (alarm.members.length > SHOWN) names.push(make("li", "", words.more_members(alarm.members.length - SHOWN)));
  return [make("details", "members", make("summary", "", words.members(alarm.members.length)), make("ol", "", ...names))];
}

function renderHealth() {
  const health = state.health;
  const boxes = [];
  if (health && health.status !== "ok") {
    const reasons = health.reasons.filter(({ code }) => !NOTICES.includes(code)).map(reasonOf);
    boxes.push(make("div", health.status, make("b", "", words[health.status]),
      ...reasons.map(({ message, remedy, original }) => make("p", "",
        [message, remedy].filter(Boolean).join(" → "), ...(original ? [make("small", "", original)] : [])))));
  } else if (health === null && state.connection === "live") {
    boxes.push(make("div", "failed", make("b", "", words.noHealth)));
  }
  for (const reason of health?.reasons.filter(({ code }) => NOTICES.includes(code)) ?? []) {
    const { message, remedy } = reasonOf(reason);
    boxes.push(make("p", "notice", [message, remedy].filter(Boolean).join(" → ")));
  }
  if (state.gaps) boxes.push(make("p", "notice", words.gaps(state.gaps)));
  // Only a change is announced and redrawn.
  const told = boxes.map((box) => box.className + box.textContent).join("\n");
  if (page.health.dataset.told !== told) {
    page.health.dataset.told = told;
    page.health.replaceChildren(...boxes);
  }
  if (!health) return;
  write(page.site, words.site(health.site, health.node));
  const counts = Object.entries(words.devices).filter(([key]) => health.counts[key] !== undefined);
  page.devices.replaceChildren(...counts.map(([key, word]) => make("li", "", `${word} `, make("b", "", String(health.counts[key])))));
}

function tick() {
  const now = Date.now();
  const live = state.connection === "live";
  const trusted = live && state.health !== null && state.health?.status !== "failed";
  const late = state.connection === "lost" || (!live && now - state.startedAt > 5_000);
  const updated = state.updatedAt === null ? "–" : clockTime(state.updatedAt);
  document.body.dataset.connection = late ? "lost" : state.connection;
  document.body.dataset.trusted = trusted || state.connection === "connecting" ? "yes" : "no";
  write(page.connection.lastChild, words[late ? "lost" : state.connection]);
  write(page.clock, clockTime(now));
  page.lost.hidden = !late;
  if (late && !page.lost.firstChild) page.lost.append(make("b"), make("span"));
  if (late) {
    write(page.lost.firstChild, words.lostTitle);
    write(page.lost.lastChild, state.updatedAt === null ? words.lostNever : words.lostText(age(now - state.updatedAt), updated));
  } else page.lost.replaceChildren();
  write(page.updated, words.updated(updated));
  for (const card of cards.values()) write(card.age, age(now + state.offsetMs - raisedAt(card.alarm)));

  const empty = state.alarms.size === 0 && state.updatedAt !== null;
  page.empty.hidden = !empty;
  page.empty.className = trusted ? "" : "unknown";
  page.empty.querySelector("use").setAttribute("href", trusted ? "#icon-calm" : "#icon-unknown");
  write(page.empty.querySelector("b"), trusted ? words.calm : words.unknown);
  write(page.empty.querySelector("span"), trusted ? words.calmText(updated) : words.unknownText);
  const told = [...state.alarms.values()].filter((alarm) => !isQuiet(alarm)).length;
  document.title = `${late ? `⚠ ${words.lost} ` : told ? `(${told}) ` : ""}安邻 Anlin`;
}

function announce(alarm) {
  page.announcer.append(make("p", "", words.announce(words.severity[alarm.severity] ?? "", textOf(alarm), placeOf(alarm))));
  while (page.announcer.children.length > 5) page.announcer.firstChild.remove();
}

// --- the line to the gateway ------------------------------------------------------------------------------------

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function follow() {
  for (let failures = 0; ; failures += 1) {
    try {
      await listen(() => { failures = 0; });
    } catch (error) {
      console.info("stream:", error);
    }
    state.connection = state.updatedAt === null ? "connecting" : "lost";
    render();
    await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] * (0.75 + Math.random() / 2));
  }
}

async function listen(connected) {
  const controller = new AbortController();
  let watchdog;
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => controller.abort(new Error("no heartbeat")), SILENCE_MS);
  };
  heard();
  const leave = () => controller.abort(new Error("page left")); // a page kept for "back" must not keep its line
  addEventListener("pagehide", leave);
  try {
    const options = { cache: "no-store", signal: controller.signal };
    const stream = await fetch("/api/v1/stream", options);
    if (!stream.ok) throw new Error(`HTTP ${stream.status}`);
    const list = await fetch("/api/v1/alarms", options);
    if (!list.ok) throw new Error(`HTTP ${list.status}`);
    replace((await list.json()).items);
    connected();
    let rest = "";
    const chunks = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let chunk = await chunks.read(); !chunk.done; chunk = await chunks.read()) {
      heard();
      state.updatedAt = Date.now();
      const blocks = (rest + chunk.value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split("\n").find((line) => line.startsWith("data: "));
        if (data) apply(JSON.parse(data.slice(6)));
      }
      ask();
    }
  } finally {
    clearTimeout(watchdog);
    removeEventListener("pagehide", leave);
    controller.abort();
  }
}

function replace(alarms) {
  const known = state.updatedAt === null ? null : state.alarms;
  state.alarms = new Map(alarms.map((alarm) => [alarm.id, alarm]));
  if (known) for (const alarm of alarms) if (!known.has(alarm.id) && !isQuiet(alarm)) announce(alarm);
  state.connection = "live";
  state.updatedAt = Date.now();
  ask();
}

function apply(alarm) {
  const known = state.alarms.get(alarm.id);
  if (known && alarm.version <= known.version) return;
  if (alarm.state === "normal") state.alarms.delete(alarm.id);
  else state.alarms.set(alarm.id, alarm);
  if (["raised", "reraised", "escalated"].includes(alarm.transition) && !isQuiet(alarm)) announce(alarm);
}

async function watchHealth() {
  for (;;) {
    try {
      const answer = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(HEALTH_MS) });
      const health = await answer.json();
      if (state.version && health.version && health.version !== state.version) location.reload(); // a new board
      state.version = health.version || state.version;
      state.offsetMs = health.now - Date.now();
      state.health = health;
    } catch {
      state.health = null;
    }
    render();
    await pause(HEALTH_MS);
  }
}

async function watchGaps() {
  for (;;) {
    try {
      const answer = await fetch("/api/v1/gaps", { cache: "no-store", signal: AbortSignal.timeout(HEALTH_MS) });
      const { items, next } = await answer.json();
      const recent = items.filter(({ at }) => at > Date.now() + state.offsetMs - DAY_MS).length;
      state.gaps = next && recent === items.length ? `${recent}+` : recent;
      render();
    } catch { /* what was known stays; the connection says what is wrong */ }
    await pause(GAPS_MS);
  }
}

page.language.addEventListener("click", switchLanguage);
page.quiet.addEventListener("toggle", () => render());
label();
render();
setInterval(tick, 1_000);
follow();
watchHealth();
watchGaps();
