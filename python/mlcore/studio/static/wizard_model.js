// The step of the model: form, species, parameters.
import { ask, element } from "/static/studio.js";
import { config, put, show } from "/static/wizard.js";
import { picker } from "/static/periodic.js";
import { asConfig, parameterTable, spelled, valuesOf } from "/static/parameters.js";
import { curvePlots } from "/static/curves.js";
import { objectForm } from "/static/fields.js";

const forms = await ask("/forms");
const chooser = document.getElementById("form-name");
const known = document.getElementById("known");
const constraints = document.getElementById("constraints");
const plot = curvePlots(document.getElementById("curves"));
config.model ??= { species: [] };
config.parameters ??= { free: [] };
let made = null, told = spelled(config.parameters, []);

chooser.append(...forms.map((one) => element("option", { value: one.name }, `${one.title} (${one.name})`)));
chooser.value = config.model.form ?? "";

/** Everything about the form for the species; `anew`: other parameters than before. */
async function load(anew) {
  const model = config.model;
  const own = forms.find((one) => one.name === model.form);
  document.getElementById("use").textContent = own?.use ?? "";
  document.getElementById("citation").textContent = own?.citation ?? "";
  if (!own || !model.species?.length) { made = null; document.getElementById("table").replaceChildren(element("p", { class: "quiet" }, "Choose a form and species.")); return; }
  const query = new URLSearchParams(model.species.map((one) => ["species", one]));
  if (model.known) query.set("known", model.known);
  if (model.options) query.set("options", JSON.stringify(model.options));
  try { made = await ask(`/forms/${own.name}?${query}`); } catch (problem) {
    made = null;
    document.getElementById("table").replaceChildren(element("p", { class: "error" }, problem.message));
    return;
  }
  known.replaceChildren(element("option", { value: "" }, "The best that fit"), ...made.sets.map((one) => element("option", { value: one.name }, `${one.name} (${one.species.join(", ")})`)));
  known.value = model.known ?? "";
  const cited = made.sets.find((one) => one.name === model.known) ?? made.sets[0];
  if (cited?.citation) document.getElementById("citation").textContent = cited.citation;
  if (anew) begin();
  told = spelled(config.parameters, made.table);
  parameterTable(document.getElementById("table"), made.table, told, tell);
  drawOptions();
  draw();
  show();
}

/** Parameters of before that are none of the form's go; where none is left, some are made free. */
function begin() {
  const names = new Set(made.table.map((one) => one.name));
  const before = spelled(config.parameters, made.table);
  const keep = (part) => Object.fromEntries(Object.entries(part).filter(([name]) => names.has(name)));
  const next = { free: keep(before.free), start: {}, fixed: {}, ties: {} };
  if (!Object.keys(next.free).length) {
    const rest = made.table.filter((p) => !p.whole && !/^(cutoff|R|D|tol|charge|table|accuracy|coul_cutoff|inner|outer|gamma|m|q)(_|$)/.test(p.name));
    for (const p of rest.slice(0, 12)) next.free[p.name] = { lower: p.lower, upper: p.upper, initial: p.default, scale: p.scale };
  }
  constraints.value = "";
  put(["parameters"], asConfig(next));
}

function tell() {
  put(["parameters"], asConfig(told, config.parameters));
  draw();
}

function draw() {
  if (!made) return;
  const { form, species } = config.model;
  const asked = { species, ...valuesOf(made.table, told) };
  if (config.model.known) asked.known = config.model.known;
  if (config.model.options) asked.options = config.model.options;
  plot(form, asked);
}

function drawOptions() {
  const part = document.getElementById("options");
  part.hidden = !made.options;
  if (!made.options) return;
  const schema = { ...made.options, properties: Object.fromEntries(Object.entries(made.options.properties).filter(([, one]) => !/path/.test(one.description ?? ""))) };
  document.getElementById("option-fields").replaceChildren(objectForm(schema, schema.$defs ?? {}, config.model.options ?? {}, (name, value) => {
    put(["model", "options", name], value);
    if (!Object.keys(config.model.options ?? {}).length) put(["model", "options"], undefined);
    clearTimeout(drawOptions.timer);
    drawOptions.timer = setTimeout(() => load(true), 900);
  }, "model.options"));
}

function drawPicker() {
  const own = forms.find((one) => one.name === config.model.form);
  picker(document.getElementById("species"), {
    species: config.model.species ?? [], masses: config.model.masses ?? {}, allowed: own?.elements ?? [], most: own?.species[1] ?? 8,
  }, (species, masses) => {
    put(["model", "species"], species);
    put(["model", "masses"], Object.keys(masses).length ? masses : undefined);
    put(["model", "known"], undefined);
    load(true);
  });
}

chooser.addEventListener("change", () => {
  put(["model", "form"], chooser.value);
  put(["model", "known"], undefined);
  put(["model", "options"], undefined);
  const own = forms.find((one) => one.name === chooser.value);
  const fits = !own.elements.length || (config.model.species ?? []).every((one) => own.elements.includes(one));
  if (!fits || !config.model.species?.length) {
    const next = own.elements.length ? own.elements.slice(0, Math.max(1, own.species[0])) : own.known[0] ?? ["Si"];
    put(["model", "species"], next);
    const beads = next.filter((one) => one.startsWith("bead:")).map((one) => [one.slice(5), 18.0154]);
    put(["model", "masses"], beads.length ? Object.fromEntries(beads) : undefined);
  }
  drawPicker();
  load(true);
});
known.addEventListener("change", () => {
  put(["model", "known"], known.value || undefined);
  put(["parameters"], { free: Object.keys(told.free), ...(Object.keys(told.ties).length ? { ties: told.ties } : {}) });
  load(false);
});
constraints.value = (config.parameters.constraints ?? []).join("\n");
constraints.addEventListener("input", () => {
  const lines = constraints.value.split("\n").map((one) => one.trim()).filter(Boolean);
  put(["parameters", "constraints"], lines.length ? lines : undefined);
});
drawPicker();
await load(false);
