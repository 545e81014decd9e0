// A draft: kept on the server half a second after each change, checked, its problems beside their fields.
import { ask, attempt, element, note } from "/static/studio.js";

const root = document.getElementById("wizard");
export const kind = root.dataset.kind;
export const id = root.dataset.task;
export const draft = await ask(`/tasks/${id}`);
export const config = draft.config;
const saved = document.getElementById("saved");
const watchers = [];
let dirty = {}, timer = 0, saving = null, checking = false, again = false;
let problems = [];

/** Call when the draft changed; `what` is a part of the config's path, or a field of the task. */
export function onChange(doing) { watchers.push(doing); }

export function get(path) {
  let at = config;
  for (const name of path) { if (at == null) return undefined; at = at[name]; }
  return at;
}

/** Set a value of the config; undefined takes it out, and what is empty then around it. */
export function put(path, value) {
  let at = config;
  const around = [];
  for (const name of path.slice(0, -1)) {
    if (at[name] == null || typeof at[name] !== "object") { if (value === undefined) return; at[name] = {}; }
    around.push([at, name]);
    at = at[name];
  }
  const last = path.at(-1);
  if (value !== undefined) at[last] = value;
  else if (Array.isArray(at)) at.splice(last, 1);
  else delete at[last];
  touch({ config });
}

/** Keep fields of the task, such as {config} or {workers: 2}. */
export function touch(fields) {
  Object.assign(dirty, fields);
  saved.textContent = "saving …";
  clearTimeout(timer);
  timer = setTimeout(flush, 500);
  for (const doing of watchers) doing(fields);
}

/** Everything is on the server when it ends; whether it is. */
export async function flush() {
  clearTimeout(timer);
  while (saving) await saving;
  if (!Object.keys(dirty).length) return true;
  const now = dirty;
  dirty = {};
  saving = ask(`/tasks/${id}`, "PATCH", now).then((told) => {
    Object.assign(draft, { ...told, config });
    saved.textContent = Object.keys(dirty).length ? "saving …" : "saved";
    return true;
  }).catch((problem) => {
    dirty = { ...now, ...dirty };
    saved.textContent = `not saved: ${problem.message}`;
    return false;
  });
  const done = await saving;
  saving = null;
  if (done) check();
  return done;
}

export async function check() {
  if (checking) { again = true; return; }
  checking = true;
  const asked = { config, engine: draft.engine, workers: draft.workers };
  try { problems = (await ask(`/kinds/${kind}/check`, "POST", asked)).map(plain); show(); }
  catch (problem) { note(problem.message, true); }
  checking = false;
  if (again) { again = false; check(); }
}

/** Without the type of a list's item, which the check puts into its place. */
function plain(problem) {
  const [list, at, type, ...rest] = problem.field.split(".");
  return type !== undefined && config[list]?.[at]?.type === type ? { ...problem, field: [list, at, ...rest].join(".") } : problem;
}

const told = [];
/** Call with the problems whenever they were looked for. */
export function onProblems(doing) { told.push(doing); doing(problems); }

const steps = [...document.querySelectorAll(".steps [data-step]")];
export function stepOf(problem) {
  const first = problem.field.split(".")[0];
  return steps.find((one) => one.dataset.fields.split(" ").includes(first));
}

/** Show problems again, such as after fields were made anew. */
export function show() {
  for (const old of document.querySelectorAll("#form .said")) old.remove();
  for (const field of document.querySelectorAll('#form [aria-invalid="true"]')) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
  for (const step of steps) {
    const count = problems.filter((one) => stepOf(one) === step).length;
    const badge = step.querySelector(".wrong");
    badge.hidden = !count;
    badge.textContent = `${count} ${count === 1 ? "problem" : "problems"}`;
  }
  const here = problems.filter((one) => { const s = stepOf(one); return !s || s.dataset.step === root.dataset.step; });
  const fields = [...document.querySelectorAll("#form [data-field]")];
  const rest = here.filter((problem, k) => !place(problem, fields, k));
  const list = document.getElementById("problems");
  list.hidden = !rest.length;
  list.replaceChildren(...rest.map((one) => element("li", {}, one.field ? `${one.field}: ${one.message}` : one.message)));
  for (const doing of told) doing(problems);
}

function place(problem, fields, number) {
  const fits = (name) => problem.field === name || problem.field.startsWith(`${name}.`);
  const found = fields.filter((one) => fits(one.dataset.field))
    .sort((a, b) => b.dataset.field.length - a.dataset.field.length)[0];
  if (!found) return false;
  const rest = problem.field.slice(found.dataset.field.length + 1);
  const inside = found.matches("textarea") && /^\d+$/.test(rest) ? `line ${Number(rest) + 1}` : rest;
  const words = element("p", { class: "error said", id: `said-${number}` }, inside ? `${inside}: ${problem.message}` : problem.message);
  const input = found.matches("input, select, textarea");
  if (input) {
    found.setAttribute("aria-invalid", "true");
    found.setAttribute("aria-describedby", words.id);
    found.closest("details")?.setAttribute("open", "");
  }
  if (input && !found.closest("table")) found.parentElement.append(words);
  else if (input) found.closest("td").append(words);
  else found.prepend(words);
  return true;
}

for (const link of document.querySelectorAll("[data-go]")) {
  link.addEventListener("click", async (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    document.activeElement?.blur?.();
    if (await flush()) location.assign(link.href);
  });
}
document.getElementById("form").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("submit")?.addEventListener("click", () => attempt(async () => {
  if (!(await flush())) return;
  try {
    await ask(`/tasks/${id}/submit`, "POST");
    location.assign(`/tasks/${id}`);
  } catch (refusal) {
    if (refusal.problems?.length) { problems = refusal.problems.map(plain); show(); }
    throw refusal;
  }
}));
window.addEventListener("pagehide", () => {
  if (!Object.keys(dirty).length) return;
  const csrf = document.querySelector('meta[name="csrf"]').content;
  fetch(`/api/tasks/${id}`, {
    method: "PATCH", keepalive: true, body: JSON.stringify(dirty),
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
  });
});

const kept = sessionStorage.getItem(`notes-${id}`);
if (kept && steps[0]?.dataset.step === root.dataset.step) {
  const list = document.getElementById("notes-of-data");
  list.replaceChildren(element("li", {}, element("strong", {}, "Suggested from your data")), ...JSON.parse(kept).map((one) => element("li", {}, one)));
  list.hidden = false;
}
check();
