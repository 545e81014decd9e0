// The table of a model's parameters: free or not, where they begin, their range, scale and tie.
import { element } from "/static/studio.js";
import { parsed } from "/static/fields.js";

function shownNumber(value) {
  if (typeof value !== "number") return value ?? "";
  const round = Number(value.toPrecision(6)), size = Math.abs(round);
  return size && (size < 1e-3 || size >= 1e7) ? round.toExponential() : String(round);
}

/** What a config says of parameters, with every range made out: {free, start, fixed, ties}. */
export function spelled(told, table) {
  const known = new Map(table.map((one) => [one.name, one]));
  const start = told?.start && typeof told.start === "object" && !Array.isArray(told.start) ? { ...told.start } : {};
  const given = Array.isArray(told?.free) ? Object.fromEntries(told.free.map((name) => [name, {}])) : told?.free ?? {};
  const free = {};
  for (const [name, own] of Object.entries(given)) {
    const form = known.get(name) ?? {};
    const initial = own?.initial ?? start[name] ?? form.default;
    let lower = own?.lower ?? form.lower, upper = own?.upper ?? form.upper, scale = own?.scale ?? form.scale ?? "linear";
    if (own?.within != null) { [lower, upper] = [initial * (1 - own.within), initial * (1 + own.within)].sort((a, b) => a - b); scale = own.scale ?? "linear"; }
    if (own?.factor != null) { [lower, upper, scale] = [initial / own.factor, initial * own.factor, own.scale ?? "log"]; }
    free[name] = { lower, upper, initial, scale };
  }
  return { free, start, fixed: { ...told?.fixed }, ties: { ...told?.ties } };
}

/**
 * The table in `root`.
 * @param table parameters of the form, as /api/forms tells them
 * @param told as `spelled` gives it; changed in place
 * @param changed called after each change
 * @param sliders whether each has one
 */
export function parameterTable(root, table, told, changed, { sliders = false, prefix = "parameters" } = {}) {
  const find = element("input", { type: "search", id: "find", placeholder: "Find a parameter" });
  const few = element("input", { type: "checkbox", id: "few" });
  const long = table.length > 40;
  few.checked = long && Object.keys(told.free).length > 0;
  const body = element("tbody");
  const count = element("span", { class: "quiet", role: "status" });
  const heads = ["Free", "Parameter", sliders ? "Value" : "Initial", ...(sliders ? ["Slider"] : []), "Lower", "Upper", "Scale", "Tie: arithmetic of others", "Unit", "What it does"];
  const head = element("tr", {}, ...heads.map((one) => element("th", { scope: "col" }, one)));
  const whole = element("table", { class: "parameters" }, element("caption", { class: "hidden" }, "Parameters"), element("thead", {}, head), body);
  root.replaceChildren(
    element("div", { class: "row" }, element("label", { class: "hidden", for: "find" }, "Find a parameter"), find, few, element("label", { for: "few" }, "Only free and tied ones"), count),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of parameters" }, whole));

  const value = (p) => told.free[p.name]?.initial ?? told.fixed[p.name] ?? told.start[p.name] ?? p.default;
  const auxiliary = Object.keys({ ...told.free, ...told.fixed }).filter((name) => !table.some((p) => p.name === name))
    .map((name) => ({ name, text: "an auxiliary number of ties", unit: "", default: 0, lower: 0, upper: 1, scale: "linear", whole: false }));
  const rows = new Map();

  function row(p) {
    const field = (what) => `${prefix}.free.${p.name}${what}`;
    const cell = (name, what, get, set) => {
      const input = element("input", { class: "number", inputmode: "decimal", "aria-label": `${what} of ${p.name}`, "data-field": field(`.${name}`) });
      input.value = shownNumber(get());
      input.addEventListener("input", () => { set(parsed(input.value)); tell(); });
      return input;
    };
    const free = element("input", { type: "checkbox", "aria-label": `${p.name} is free`, "data-field": field("") });
    free.checked = p.name in told.free;
    free.disabled = p.whole;
    const set = (v) => {
      if (p.name in told.free) told.free[p.name].initial = v;
      else if (p.name in told.fixed) told.fixed[p.name] = v;
      else if (v === undefined || v === p.default) delete told.start[p.name];
      else told.start[p.name] = v;
    };
    const initial = cell("initial", "initial value", () => value(p), (v) => { set(v); slide(); });
    if (!(p.name in told.free)) initial.dataset.field = `${prefix}.start.${p.name}`;
    const bound = (which) => cell(which, `${which} bound`, () => told.free[p.name]?.[which] ?? p[which], (v) => { if (told.free[p.name]) told.free[p.name][which] = v; slide(); });
    const lower = bound("lower"), upper = bound("upper");
    const scale = element("select", { "aria-label": `scale of ${p.name}`, "data-field": field(".scale") }, element("option", { value: "linear" }, "linear"), element("option", { value: "log" }, "log"));
    scale.value = told.free[p.name]?.scale ?? p.scale;
    scale.addEventListener("change", () => { if (told.free[p.name]) told.free[p.name].scale = scale.value; slide(); tell(); });
    const tie = element("input", { class: "tie", "aria-label": `tie of ${p.name}`, "data-field": `${prefix}.ties.${p.name}`, spellcheck: "false" });
    tie.value = told.ties[p.name] ?? "";
    tie.disabled = p.whole;
    const slider = element("input", { type: "range", min: "0", max: "1000", "aria-label": `slider of ${p.name}` });
    const slide = () => {
      const own = told.free[p.name] ?? p;
      slider.value = String(1000 * part(value(p), own));
      slider.setAttribute("aria-valuetext", shownNumber(value(p)));
    };
    slider.addEventListener("input", () => {
      const own = told.free[p.name] ?? p;
      const v = Number(at(Number(slider.value) / 1000, own).toPrecision(5));
      set(v);
      initial.value = shownNumber(v);
      slider.setAttribute("aria-valuetext", shownNumber(v));
      tell();
    });
    const enable = () => {
      const tied = p.name in told.ties, on = p.name in told.free;
      for (const one of [lower, upper, scale]) one.disabled = !on;
      initial.disabled = tied;
      slider.disabled = tied || p.whole;
      free.checked = on;
    };
    free.addEventListener("change", () => {
      const now = value(p);
      delete told.ties[p.name];
      tie.value = "";
      if (free.checked) {
        delete told.start[p.name]; delete told.fixed[p.name];
        told.free[p.name] = { lower: Math.min(p.lower, now), upper: Math.max(p.upper, now), initial: now, scale: p.scale };
        lower.value = shownNumber(told.free[p.name].lower);
        upper.value = shownNumber(told.free[p.name].upper);
      } else { delete told.free[p.name]; if (now !== p.default) told.start[p.name] = now; }
      initial.dataset.field = free.checked ? field(".initial") : `${prefix}.start.${p.name}`;
      enable(); tell();
    });
    tie.addEventListener("input", () => {
      if (tie.value.trim()) { told.ties[p.name] = tie.value.trim(); delete told.free[p.name]; delete told.fixed[p.name]; delete told.start[p.name]; }
      else delete told.ties[p.name];
      enable(); tell();
    });
    enable(); slide();
    const cells = [free, element("code", {}, p.name), initial, ...(sliders ? [slider] : []), lower, upper, scale, tie].map((one) => element("td", {}, one));
    return element("tr", {}, ...cells, element("td", { class: "unit" }, p.unit.replaceAll(/\bA\b/g, "Å")), element("td", { class: "about" }, p.text));
  }
  function tell() { sum(); changed(); }
  function sum() {
    const free = Object.keys(told.free).length, tied = Object.keys(told.ties).length;
    count.textContent = `${free} free, ${tied} tied, of ${table.length}`;
  }
  function draw() {
    const wish = find.value.trim().toLowerCase();
    const fits = [...table, ...auxiliary].filter((p) => (!wish || p.name.toLowerCase().includes(wish) || p.text.toLowerCase().includes(wish)) && (!few.checked || p.name in told.free || p.name in told.ties));
    for (const p of fits.slice(0, 400)) if (!rows.has(p.name)) rows.set(p.name, row(p));
    body.replaceChildren(...fits.slice(0, 400).map((p) => rows.get(p.name)));
  }
  find.addEventListener("input", draw);
  few.addEventListener("change", draw);
  draw(); sum();
}

function part(value, { lower, upper, scale }) {
  const found = scale === "log" && lower > 0 ? Math.log(value / lower) / Math.log(upper / lower) : (value - lower) / (upper - lower);
  return Number.isFinite(found) ? Math.min(1, Math.max(0, found)) : 0;
}

function at(part_, { lower, upper, scale }) {
  return scale === "log" && lower > 0 ? lower * (upper / lower) ** part_ : lower + part_ * (upper - lower);
}

/** Values of parameters and auxiliary numbers, and ties, as curves are asked for. */
export function valuesOf(table, told) {
  const values = {};
  for (const name of new Set([...table.map((p) => p.name), ...Object.keys(told.free), ...Object.keys(told.fixed)])) {
    const v = told.free[name]?.initial ?? told.fixed[name] ?? told.start[name];
    if (typeof v === "number" && !(name in told.ties)) values[name] = v;
  }
  return { values, ties: told.ties };
}

/** What the config says of parameters, as short as it can. */
export function asConfig(told, before) {
  const found = { free: told.free };
  const written = before?.start && (typeof before.start === "string" || Array.isArray(before.start));
  if (written) found.start = before.start;
  else if (Object.keys(told.start).length) found.start = told.start;
  for (const name of ["fixed", "ties"]) if (Object.keys(told[name]).length) found[name] = told[name];
  if (before?.constraints?.length) found.constraints = before.constraints;
  return found;
}
