// A task while it runs: its state by server-sent events, its figures and log when something changed.
import { ask, attempt, duration, element, note } from "/static/studio.js";
import { figures, sections, tables } from "/static/figures.js";

const root = document.getElementById("task");
const id = root.dataset.task;
const may = {
  pause: ["queued", "running"], resume: ["paused", "cancelled", "failed"],
  cancel: ["queued", "running", "pausing", "paused"], restart: ["paused", "cancelled", "failed", "done"],
  clone: null, delete: ["draft", "paused", "cancelled", "failed", "done"],
};
const PAUSE = 500; // ms at least between two looks at figures
const OFFERS = 5000; // and between two at what can be taken home
const at = (name) => document.getElementById(name);

function put(node, text) { if (node && node.textContent !== text) node.textContent = text; }

function bytes(count) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (count < 1000) return `${count < 10 && unit !== "B" ? count.toFixed(1) : Math.round(count)} ${unit}`;
    count /= 1000;
  }
  return `${count.toFixed(1)} TB`;
}

// -- state ---------------------------------------------------------------------------------------
let task = { state: root.dataset.state, seconds: 0 }, told = performance.now();

function show(now) {
  const over = task.state !== now.state && ["done", "failed", "cancelled", "paused"].includes(now.state);
  task = now;
  told = performance.now();
  const badge = at("state");
  put(badge, task.state);
  badge.className = `badge ${task.state}`;
  at("progress").value = task.progress;
  put(at("line"), task.error || (task.waiting ? `${task.waiting} before it` : task.line));
  at("killed").hidden = !task.restarts;
  put(at("killed"), task.restarts ? `Its process was killed ${task.restarts === 1 ? "once" : `${task.restarts} times`} and started again.` : "");
  put(at("fact-cpu"), duration(task.cpu_seconds));
  put(at("note-cpu"), task.seconds > 1 ? `${(task.cpu_seconds / task.seconds).toFixed(2)} cores busy` : "");
  put(at("fact-memory"), task.memory ? bytes(task.memory) : "none now");
  put(at("fact-workers"), `${task.workers} × ${task.engine}`);
  put(at("note-workers"), task.workers === 1 ? "worker" : "workers");
  for (const button of root.querySelectorAll("[data-do]")) {
    const states = may[button.dataset.do];
    const not = button.dataset.do === "pause" && root.dataset.resumable === "false";
    button.hidden = not || (states !== null && !states.includes(task.state));
  }
  const publish = at("publish");
  if (publish) publish.hidden = task.state !== "done";
  clock();
  if (over) note(`The task is ${task.state}.`, task.state === "failed");
}

function clock() {
  const going = ["running", "pausing", "cancelling"].includes(task.state);
  put(at("fact-time"), duration(task.seconds + (going ? (performance.now() - told) / 1000 : 0)));
  const begun = new Date((task.started ?? 0) * 1000);
  const today = begun.toDateString() === new Date().toDateString();
  put(at("note-time"), task.started ? `since ${today ? begun.toTimeString().slice(0, 5) : begun.toLocaleDateString()}` : "");
}
setInterval(clock, 1000);

// -- figures, log, downloads -----------------------------------------------------------------------
function numbers(list) {
  const place = at("facts");
  const names = new Set(list.map((one) => one.name));
  for (const old of place.querySelectorAll("[data-number]")) if (!names.has(old.dataset.number)) old.remove();
  for (const one of list) {
    let made = [...place.querySelectorAll("[data-number]")].find((other) => other.dataset.number === one.name);
    if (!made) {
      made = element("div", { "data-number": one.name }, element("dt", { title: one.name }, one.name), element("dd"), element("dd", { class: "note" }));
      place.append(made);
    }
    put(made.children[1], one.value);
    made.children[1].className = one.tone ?? "";
    put(made.children[2], one.note);
    made.children[2].title = one.note;
  }
}

function contents() {
  const sections = [...document.querySelectorAll("#shown > section")];
  const toc = at("toc");
  const names = sections.map((one) => one.id).join();
  if (toc.dataset.names === names) return;
  toc.dataset.names = names;
  toc.replaceChildren(...sections.map((one) => element("a", { href: `#${one.id}` }, one.querySelector("h2").textContent)));
}

async function look() {
  const view = await ask(`/tasks/${id}/view`);
  const place = at("shown");
  if (view.figures.length || view.tables.length) at("waiting")?.remove();
  numbers(view.numbers ?? []);
  const warnings = (view.warnings ?? []).join("\n");
  if (at("warnings").dataset.told !== warnings) {
    at("warnings").dataset.told = warnings;
    at("warnings").replaceChildren(...(view.warnings ?? []).map((text) => element("li", {}, text)));
  }
  at("snippet").hidden = !view.snippet;
  put(at("snippet-text"), view.snippet ?? "");
  // everything has its place before anything is drawn, so that nothing jumps
  sections(place, new Set([...view.figures, ...view.tables].map((one) => one.section)));
  contents();
  tables(place, view.tables);
  await figures(place, view.figures);
  return view.behind;
}

let next = 0;
async function log() {
  for (let more = true; more;) {
    const found = await ask(`/tasks/${id}/log?start=${next}`);
    const place = at("log");
    const end = place.scrollTop + place.clientHeight >= place.scrollHeight - 4;
    if (found.next < next) place.textContent = "";
    if (found.text) place.append(found.text);
    more = found.text.length > 100000;
    next = found.next;
    // of very long ones the end
    while (place.childNodes.length > 400) place.firstChild.remove();
    if (end) place.scrollTop = place.scrollHeight;
  }
}

async function downloads() {
  const list = await ask(`/tasks/${id}/downloads`);
  const names = JSON.stringify(list.map((one) => [one.name, one.size]));
  const place = at("downloads");
  if (place.dataset.names === names) return;
  place.dataset.names = names;
  at("nothing").hidden = list.length > 0;
  place.replaceChildren(...list.map((one) => element("li", {},
    element("a", { href: `/api/tasks/${id}/downloads/${encodeURIComponent(one.name)}`, download: one.name }, one.title),
    element("span", { class: "quiet" }, `${one.name}${one.size == null ? "" : `, ${bytes(one.size)}`}`))));
}

let film = false;
async function playback() {
  if (!at("playback") || film) return;
  try {
    const found = await ask(`/tasks/${id}/playback`);
    const { viewer } = await import("/static/viewer.js");
    at("playback").hidden = false;
    put(at("playback-what"), found.what);
    const frames = (k) => ask(`/tasks/${id}/playback/${k}`);
    film = true;
    viewer(at("viewer"), frames, { count: found.count, label: found.what });
  } catch { /* there is nothing to be seen yet */ }
}

// never more than one look at a time; what changed meanwhile is seen by the next
let looking = false, wanted = false, offered = { state: "", at: -Infinity };
async function refresh() {
  wanted = true;
  if (looking || document.hidden) return;
  looking = true;
  while (wanted && !document.hidden) {
    wanted = false;
    const begun = performance.now();
    try {
      wanted = (await look()) || wanted;
      await log();
      if (task.state !== offered.state || begun - offered.at > OFFERS) {
        offered = { state: task.state, at: begun };
        await downloads();
      }
      if (task.state === "done") await playback();
    } catch (problem) {
      if (problem.status) note(problem.message, true);
      // else the server is away; the stream comes back when it does
    }
    await new Promise((ready) => setTimeout(ready, Math.max(50, PAUSE - (performance.now() - begun))));
  }
  looking = false;
}
document.addEventListener("visibilitychange", () => { if (!document.hidden && wanted) refresh(); });

// -- what people do ----------------------------------------------------------------------------------
const asks = { delete: "Throw the task and all it made away?", restart: "Start over? What the task made until now is thrown away." };

root.addEventListener("click", (event) => {
  const what = event.target.dataset?.do;
  const asked = what === "delete" || (what === "restart" && task.state === "done");
  if (!what || (asked && !confirm(asks[what]))) return;
  attempt(async () => {
    if (what === "delete") {
      await ask(`/tasks/${id}`, "DELETE");
      location.assign("/");
    } else {
      const now = await ask(`/tasks/${id}/${what}`, "POST");
      if (what === "clone") location.assign(`/drafts/${now.id}`);
      else show(now);
    }
  });
});

at("copy").addEventListener("click", () => attempt(async () => {
  const text = at("snippet-text");
  try { await navigator.clipboard.writeText(text.textContent); } catch {
    getSelection().selectAllChildren(text); // without https there is no clipboard
    document.execCommand("copy");
  }
  note("Copied.");
}));

const dialog = at("publishing");
if (dialog) {
  const form = at("publish-form");
  const tell = (problems) => {
    for (const place of form.querySelectorAll("[data-field]")) {
      const mine = problems.filter((one) => one.field === place.dataset.field
        || (place.dataset.field === "" && !form.elements[one.field]));
      place.textContent = mine.map((one) => (form.elements[one.field] || !one.field ? one.message : `${one.field}: ${one.message}`)).join(" ");
      if (place.dataset.field) form.elements[place.dataset.field].setAttribute("aria-invalid", mine.length > 0);
    }
    form.querySelector('[aria-invalid="true"]')?.focus();
  };
  at("publish").addEventListener("click", () => {
    const { name, title } = form.elements;
    name.value ||= title.value.normalize("NFKD").replaceAll(/[^A-Za-z0-9._+-]+/g, "-").replaceAll(/^[^A-Za-z0-9]+|-+$/g, "").toLowerCase().slice(0, 100);
    tell([]);
    dialog.showModal();
  });
  at("publish-not").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const lines = (name) => form.elements[name].value.split("\n").map((one) => one.trim()).filter(Boolean);
    const said = Object.fromEntries(["name", "title", "license"].map((name) => [name, form.elements[name].value.trim()]));
    try {
      const made = await ask(`/tasks/${id}/publish`, "POST", { ...said, authors: lines("authors"), citation: lines("citation") });
      location.assign(`/library/${encodeURIComponent(made.name)}`);
    } catch (problem) {
      tell(problem.problems?.length ? problem.problems : [{ field: "", message: problem.message }]);
    }
  });
}

// a stream that ends comes back by itself, one that is refused does not
const away = element("div", { class: "bad" }, "The server does not answer. Tasks go on without it, and this page as soon as it is back.");

function listen() {
  const stream = new EventSource(`/api/tasks/${id}/live`);
  stream.addEventListener("open", () => away.remove());
  stream.addEventListener("task", (event) => { show(JSON.parse(event.data)); refresh(); });
  stream.addEventListener("gone", () => { stream.close(); note("The task was deleted."); });
  stream.addEventListener("error", async () => {
    const refused = stream.readyState === EventSource.CLOSED;
    try { await ask(`/tasks/${id}`); } catch (problem) {
      if (problem.status === 404) return;
      if (!(problem.status < 500) && stream.readyState !== EventSource.OPEN) at("notes").append(away);
    }
    if (refused) setTimeout(listen, 3000);
  });
}
listen();
refresh();
