// The page of a form: species, sliders, curves that follow, and a fit that begins with them.
import { ask, attempt, element } from "/static/studio.js";
import { picker } from "/static/periodic.js";
import { asConfig, parameterTable, spelled, valuesOf } from "/static/parameters.js";
import { curvePlots } from "/static/curves.js";

const root = document.getElementById("model");
const form = root.dataset.form;
const own = (await ask("/forms")).find((one) => one.name === form);
const plot = curvePlots(document.getElementById("curves"));
const known = document.getElementById("known");
const fit = document.getElementById("fit"), reset = document.getElementById("reset");
const constraints = document.getElementById("constraints");
let species = root.dataset.species.split(" ").filter(Boolean), masses = {}, made = null, told = null;
for (const one of species) if (one.startsWith("bead:")) masses[one.slice(5)] = 18.0154;

async function load() {
  const wrong = document.getElementById("wrong");
  wrong.textContent = "";
  made = null;
  fit.disabled = true;
  if (!species.length) { wrong.textContent = "Choose a species."; return; }
  const query = new URLSearchParams(species.map((one) => ["species", one]));
  if (known.value) query.set("known", known.value);
  try { made = await ask(`/forms/${form}?${query}`); } catch (problem) { wrong.textContent = problem.message; return; }
  const chosen = known.value;
  known.replaceChildren(element("option", { value: "" }, made.sets.length ? "The best that fit" : "Those of the form"), ...made.sets.map((one) => element("option", { value: one.name }, `${one.name} (${one.species.join(", ")})`)));
  known.value = made.sets.some((one) => one.name === chosen) ? chosen : "";
  const cited = made.sets.find((one) => one.name === known.value) ?? made.sets[0];
  document.getElementById("citation").textContent = cited?.citation ?? "";
  document.getElementById("chosen").textContent = species.join(", ");
  told = spelled({ free: {} }, made.table);
  parameterTable(document.getElementById("table"), made.table, told, draw, { sliders: true });
  fit.disabled = false;
  draw();
}

function draw() {
  if (!made) return;
  plot(form, { species, ...valuesOf(made.table, told), ...(known.value ? { known: known.value } : {}) });
}

picker(document.getElementById("species"), { species, masses, allowed: own.elements, most: own.species[1] }, (s, m) => {
  species = s; masses = m; known.value = "";
  load();
});
known.addEventListener("change", load);
reset.addEventListener("click", load);
reset.disabled = false;
fit.addEventListener("click", () => attempt(async () => {
  if (!made) return;
  const lines = constraints.value.split("\n").map((one) => one.trim()).filter(Boolean);
  const free = Object.keys(told.free).length ? told.free : undefined;
  const parameters = asConfig(told, { constraints: lines });
  if (!free) {
    parameters.free = Object.fromEntries(made.table.filter((p) => !p.whole && !/^(cutoff|R|D|tol)(_|$)/.test(p.name)).slice(0, 12)
      .map((p) => [p.name, { lower: p.lower, upper: p.upper, initial: told.start[p.name] ?? p.default, scale: p.scale }]));
    for (const name of Object.keys(parameters.free)) if (parameters.start) delete parameters.start[name];
  }
  const model = { form, species, ...(Object.keys(masses).length ? { masses } : {}), ...(known.value ? { known: known.value } : {}) };
  const config = { format: "mlcore forcefield fit", version: 1, model, parameters, search: { name: "default" }, run: { budget: 1000, seed: 0, timeout: 60 } };
  const task = await ask("/tasks", "POST", { kind: "forcefield", title: `${species.map((one) => one.replace("bead:", "")).join("-")}, ${form}`, config });
  location.assign(`/drafts/${task.id}/data`);
}));
load();
