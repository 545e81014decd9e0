// The step of the data: a data set with what its groups count, and properties.
import { ask, element } from "/static/studio.js";
import { config, get, put, show } from "/static/wizard.js";
import { labelled, number, tick } from "/static/fields.js";
import { dropping } from "/static/uploading.js";
import { targetList } from "/static/wizard_targets.js";

const LABELS = [["energy", "eV/atom", 0.02], ["forces", "eV/Å", 0.2], ["stress", "eV/Å³", 0.003]];
const chooser = document.getElementById("upload");
const groups = document.getElementById("groups");
let uploads = [];

async function list() {
  try { uploads = await ask("/uploads"); } catch { uploads = []; }
  const fit = uploads.filter((one) => ["structures", "trajectory"].includes(one.kind));
  chooser.replaceChildren(element("option", { value: "" }, "none"), ...fit.map((one) => element("option", { value: `upload:${one.id}/data` }, one.title)));
  const now = get(["data", "folder"]) ?? "";
  if (now && ![...chooser.options].some((one) => one.value === now)) chooser.append(element("option", { value: now }, now));
  chooser.value = now;
  draw();
}

const chosen = () => uploads.find((one) => `upload:${one.id}/data` === get(["data", "folder"]));

function choose(folder) {
  if (!folder) put(["data"], undefined);
  else put(["data"], { ...config.data, folder, groups: undefined });
  if (folder) suggestedWeights();
  draw();
}

function suggestedWeights() {
  const known = chosen()?.summary?.groups ?? {};
  const own = Object.entries(known).map(([name, one]) => [name, { energy: one.labels?.energy ? 1 : 0, forces: one.labels?.forces ? 1 : 0, stress: 0 }]);
  put(["data", "groups"], own.length ? Object.fromEntries(own) : undefined);
}

function draw() {
  if (!config.data) { groups.replaceChildren(element("p", { class: "quiet" }, "Without structures the fit needs properties, below.")); show(); return; }
  const summary = chosen()?.summary ?? {};
  const named = Object.keys({ ...summary.groups, ...config.data.groups });
  const rows = named.map((name) => groupRow(name, summary.groups?.[name]));
  const heads = ["Group", "Structures", "Energy weight", "Forces weight", "Stress weight", "Level", "Held out", "σ energy", "σ forces", "σ stress"];
  const head = element("tr", {}, ...heads.map((one) => element("th", { scope: "col", ...(one === "Structures" ? { class: "number" } : {}) }, one)));
  const table = element("table", { class: "groups" }, element("caption", { class: "hidden" }, "What groups count"), element("thead", {}, head), element("tbody", {}, ...rows));
  const sigma = element("div", { class: "fields" }, ...LABELS.map(([label, unit, usual]) => labelled(
    `Tolerance of ${label}, ${unit}`, number(get(["data", "sigma", label]), (v) => set(["data", "sigma"], label, v), { placeholder: String(usual) }),
    "How far off is still good.", `data.sigma.${label}`)), heldOut());
  const checks = (summary.checks ?? []).filter((one) => one.severity !== "info").slice(0, 6);
  groups.replaceChildren(...(checks.length ? [element("ul", { class: "notes", "aria-label": "What was noticed" }, ...checks.map((one) => element("li", {}, one.message)))] : []),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Groups" }, table), element("h3", {}, "Tolerances of all groups that have none of their own"), sigma);
  show();
}

/** Set a name in a part of the config; the part goes where it is empty. */
function set(path, name, value) {
  put([...path, name], value);
  if (!Object.keys(get(path) ?? {}).length) put(path, undefined);
}

function groupRow(name, known) {
  const path = ["data", "groups", name];
  const at = (what) => `data.groups.${name}.${what}`;
  const own = (what) => get([...path, what]) ?? get(["data", "weights", what]);
  const cell = (input) => element("td", {}, input);
  const weights = [["energy", 1], ["forces", 1], ["stress", 0]].map(([label, usual]) => {
    const input = number(own(label), (v) => put([...path, label], v), { "aria-label": `weight of ${label} of ${name}`, placeholder: String(usual), "data-field": at(label) });
    input.disabled = Boolean(known) && !known.labels?.[label];
    if (input.disabled) { input.value = ""; input.placeholder = "no label"; }
    return cell(input);
  });
  const level = number(own("level"), (v) => put([...path, "level"], v), { "aria-label": `level of ${name}`, placeholder: "0", "data-field": at("level") });
  const held = tick(own("held_out"), (v) => put([...path, "held_out"], v || undefined), { "aria-label": `${name} is held out`, "data-field": at("held_out") });
  const sigmas = LABELS.map(([label, , usual]) => cell(number(get([...path, "sigma", label]), (v) => set([...path, "sigma"], label, v), {
    "aria-label": `tolerance of ${label} of ${name}`, placeholder: String(get(["data", "sigma", label]) ?? usual), "data-field": at(`sigma.${label}`) })));
  return element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "number" }, String(known?.structures ?? "")), ...weights, cell(level), cell(held), ...sigmas);
}

function heldOut() {
  const now = get(["data", "held_out", "fraction"]);
  const input = number(now, (v) => put(["data", "held_out"], v === undefined ? undefined : { seed: 0, ...config.data.held_out, fraction: v }), { placeholder: "none" });
  return labelled("Part of every group that is held out", input, "The result is judged by it; the search never sees it.", "data.held_out.fraction");
}

chooser.addEventListener("change", () => choose(chooser.value));
dropping(document.getElementById("drop"), document.getElementById("file"), {
  say: (text) => { const at = document.getElementById("working"); at.className = "quiet"; at.textContent = text; },
  wrong: (text) => { if (!text) return; const at = document.getElementById("working"); at.className = "error"; at.textContent = text; },
  done: async (upload) => { await list(); choose(`upload:${upload.id}/data`); chooser.value = get(["data", "folder"]) ?? ""; },
});
await list();
await targetList();
