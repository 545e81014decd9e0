// Data sets: uploaded and pulled on one page, looked at on another.
import { ask, attempt, element, note } from "/static/studio.js";
import { theme, viewer } from "/static/viewer.js";

// -- all of them -----------------------------------------------------------------------------------
function beginUploads(form) {
  const input = document.getElementById("files");
  const drop = document.getElementById("drop");
  const refusal = document.getElementById("refusal");
  const standing = document.getElementById("standing");
  const bar = document.getElementById("sent");

  function refused(text) { refusal.textContent = text; standing.textContent = ""; bar.value = 0; input.disabled = false; input.value = ""; }

  function send(files) {
    const size = [...files].reduce((total, file) => total + file.size, 0);
    refusal.textContent = "";
    if (!files.length) return;
    if (size > Number(form.dataset.most)) { refused(`These files have ${(size / 1e6).toFixed(1)} MB, more than may be sent at once.`); return; }
    const body = new FormData();
    for (const file of files) body.append("files", file);
    const request = new XMLHttpRequest(); // fetch tells nothing of what is sent
    request.open("POST", "/api/uploads");
    request.setRequestHeader("X-CSRF-Token", document.querySelector('meta[name="csrf"]').content);
    request.upload.addEventListener("progress", (event) => {
      bar.value = event.loaded / (event.total || 1);
      standing.textContent = event.loaded < event.total ? `${Math.round(100 * bar.value)} % sent` : "Reading and checking …";
    });
    request.addEventListener("error", () => refused("The server cannot be reached."));
    request.addEventListener("load", () => {
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* an answer that is none is told by its status */ }
      if (request.status === 201) location.assign(`/data/${told.id}`);
      else refused(told.detail ?? `The server answered ${request.status}.`);
    });
    input.disabled = true;
    standing.textContent = "Sending …";
    request.send(body);
  }

  input.addEventListener("change", () => send(input.files));
  form.addEventListener("submit", (event) => { event.preventDefault(); send(input.files); });
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); if (!input.disabled) send(event.dataTransfer.files); });
}

function beginPull(form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const refusal = document.getElementById("pull-refusal");
    const button = form.querySelector("button");
    const asked = { ids: form.elements.ids.value.split(/[\s,;]+/).filter(Boolean) };
    if (form.elements.key.value) asked.key = form.elements.key.value;
    refusal.textContent = "";
    button.disabled = true;
    try {
      const made = await ask("/uploads/materials-project", "POST", asked);
      location.assign(`/data/${made.id}`);
    } catch (problem) {
      refusal.textContent = problem.problems?.[0] ? `${problem.problems[0].field}: ${problem.problems[0].message}` : problem.message;
    }
    button.disabled = false;
  });
}

// -- one of them -----------------------------------------------------------------------------------
const root = document.getElementById("dataset");
const id = root?.dataset.upload;
const count = Number(root?.dataset.count ?? 0);
const PAGE = 100;
let shown = null; // the viewer
let offset = 0;

function digits(value, places) { return value === null ? "" : value.toFixed(places); }

function rowOf(one) {
  const show = element("button", { type: "button", class: "link", "data-structure": String(one.index) }, one.name);
  const flags = one.flags.map((flag) => element("span", { class: `badge ${flag.severity === "error" ? "failed" : "paused"}`, title: flag.message }, flag.code));
  const number = (text) => element("td", { class: "number" }, text);
  const row = element("tr", { "data-row": String(one.index) }, element("td", {}, show), element("td", {}, one.group), element("td", {}, one.formula),
    number(String(one.atoms)), number(digits(one.energy_per_atom, 4)), number(digits(one.volume_per_atom, 3)), number(digits(one.most_force, 3)), element("td", {}, ...flags));
  if (one.index === shown?.k) row.setAttribute("aria-current", "true");
  return row;
}

async function list() {
  const flagged = document.getElementById("flagged")?.checked ?? false;
  const found = await ask(`/uploads/${id}/structures?offset=${offset}&count=${PAGE}&flagged=${flagged}`);
  document.getElementById("rows").replaceChildren(...found.map(rowOf));
  document.getElementById("where").textContent = found.length ? `${offset + 1} to ${offset + found.length}${flagged ? "" : ` of ${count}`}` : "none";
  document.getElementById("earlier").disabled = offset === 0;
  document.getElementById("later").disabled = found.length < PAGE;
}

function marked(k) {
  for (const row of document.querySelectorAll("tr[data-row]")) {
    if (Number(row.dataset.row) === k) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
  }
  for (const plot of document.querySelectorAll("#figures .plot")) {
    const last = plot.data?.length - 1;
    if (plot.data?.[last]?.name !== "shown") continue;
    let [x, y] = [[], []];
    for (const trace of plot.data.slice(0, -1)) {
      const at = trace.customdata?.indexOf(k) ?? -1;
      if (at >= 0) [x, y] = [[trace.x[at]], [trace.y[at]]];
    }
    Plotly.restyle(plot, { x: [x], y: [y] }, [last]);
  }
}

async function facts(k, frame) {
  const [one] = await ask(`/uploads/${id}/structures?offset=${k}&count=1`);
  if (shown.k !== k) return;
  document.getElementById("shown").textContent = one.name;
  const words = [one.formula, `${one.atoms} atoms${frame.numbers.length < one.atoms ? ` (${frame.numbers.length} shown)` : ""}`];
  if (one.energy_per_atom !== null) words.push(`${one.energy_per_atom.toFixed(4)} eV/atom`);
  if (one.volume_per_atom !== null) words.push(`${one.volume_per_atom.toFixed(3)} Å³/atom`);
  if (one.most_force !== null) words.push(`most force ${one.most_force.toFixed(3)} eV/Å`);
  document.getElementById("facts").textContent = words.join(" · ");
  document.getElementById("flags").replaceChildren(...one.flags.map((flag) => element("li", {}, `${flag.severity}: ${flag.message}`)));
  marked(k);
}

function drawn(figure) {
  const look = theme();
  const plot = element("div", { class: "plot", role: "img", "aria-label": figure.title });
  const merged = (name) => ({ ...look.layout[name], ...figure.layout[name] });
  const layout = { ...look.layout, ...figure.layout, xaxis: merged("xaxis"), yaxis: merged("yaxis"), margin: { l: 60, r: 10, t: 8, b: 44 },
    legend: { orientation: "h", y: 1.12 }, hovermode: "closest", showlegend: true };
  const data = [...figure.data];
  if (data.some((trace) => trace.type === "scatter")) {
    data.push({ type: "scatter", mode: "markers", name: "shown", x: [], y: [], hoverinfo: "skip", showlegend: false, marker: { size: 15, symbol: "diamond-open", color: look.ink, line: { width: 2 } } });
  }
  document.getElementById("figures").append(element("figure", { class: "figure" }, element("figcaption", {}, figure.title), plot));
  Plotly.newPlot(plot, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  plot.on("plotly_click", (event) => { const k = event.points[0].customdata; if (k >= 0) attempt(() => shown.show(k)); });
}

function beginRenaming() {
  const form = document.getElementById("renaming");
  const toggle = (open) => { form.hidden = !open; if (open) form.elements.title.focus(); else document.getElementById("rename").focus(); };
  document.getElementById("rename").addEventListener("click", () => toggle(form.hidden));
  document.getElementById("leave").addEventListener("click", () => toggle(false));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const told = await ask(`/uploads/${id}`, "PATCH", { title: form.elements.title.value });
      document.getElementById("title").textContent = told.title;
      toggle(false);
      note("Renamed.");
    });
  });
}

async function gridFrame(k) {
  const told = await ask(`/uploads/${id}/grid?frame=${k}`);
  document.getElementById("facts").textContent = `${told.shape.join(" × ")} cells${told.step > 1 ? ` (each ${told.step}th shown)` : ""}`;
  return { grid: told };
}

function beginPaging() {
  const turn = (by) => { offset = Math.max(0, offset + by); attempt(list); };
  document.getElementById("earlier").addEventListener("click", () => turn(-PAGE));
  document.getElementById("later").addEventListener("click", () => turn(PAGE));
  document.getElementById("flagged")?.addEventListener("change", () => { offset = 0; attempt(list); });
  document.addEventListener("click", (event) => {
    const k = event.target.dataset?.structure;
    if (k === undefined) return;
    document.getElementById("viewer").parentElement.scrollIntoView({ block: "nearest" });
    attempt(() => shown.show(Number(k)));
  });
  attempt(list);
}

function begin() {
  beginRenaming();
  document.getElementById("delete").addEventListener("click", () => attempt(async () => {
    if (!confirm("Throw the data set away?")) return;
    await ask(`/uploads/${id}`, "DELETE");
    location.assign("/data");
  }));
  const place = document.getElementById("viewer");
  if (root.dataset.kind === "grid") shown = viewer(place, gridFrame, { count, label: "Grid" });
  else if (place) {
    shown = viewer(place, (k) => ask(`/uploads/${id}/structures/${k}`), { count, label: "Structure", onframe: (k, frame) => attempt(() => facts(k, frame)) });
    beginPaging();
    attempt(async () => { for (const figure of (await ask(`/uploads/${id}/figures`)).figures) drawn(figure); marked(shown.k); });
  }
}

if (root) begin();
else {
  beginUploads(document.getElementById("upload"));
  beginPull(document.getElementById("pull"));
}
