// Properties of a fit: added from the types there are, each a form made of its schema.
import { ask, element } from "/static/studio.js";
import { config, put, show, touch } from "/static/wizard.js";
import { objectForm } from "/static/fields.js";

const TIERS = { static: "structures at rest, milliseconds", relaxed: "atoms are relaxed", md: "molecular dynamics, seconds and more" };
const COMMON = ["name", "group", "level", "weight", "held_out"];
const root = document.getElementById("targets");
const chooser = document.getElementById("target-type");
const words = document.getElementById("target-text");
let types = [];

export async function targetList() {
  types = await ask("/targets");
  const tiers = Object.keys(TIERS).filter((tier) => types.some((one) => one.tier === tier));
  chooser.replaceChildren(...tiers.map((tier) => element("optgroup", { label: TIERS[tier] },
    ...types.filter((one) => one.tier === tier).map((one) => element("option", { value: one.type }, one.type.replaceAll("_", " "))))));
  chooser.value = "cubic_crystal";
  const say = () => { words.textContent = types.find((one) => one.type === chooser.value)?.text ?? ""; };
  chooser.addEventListener("change", say);
  say();
  document.getElementById("add-target").addEventListener("click", () => {
    put(["targets"], [...(config.targets ?? []), begun(chooser.value)]);
    draw();
    root.querySelector(".target:last-of-type input, .target:last-of-type select")?.focus();
  });
  draw();
}

/** What is needed to begin with: a crystal of the model's element. */
function begun(type) {
  const made = { type };
  const own = types.find((one) => one.type === type).options;
  if (own.properties.structure) made.structure = {};
  return made;
}

function draw() {
  root.replaceChildren(...(config.targets ?? []).map((target, k) => card(target, k)));
  show();
}

function card(target, k) {
  const own = types.find((one) => one.type === target.type);
  const out = element("button", { type: "button", class: "small" }, "Remove");
  out.addEventListener("click", () => {
    const rest = config.targets.filter((_, at) => at !== k);
    put(["targets"], rest.length ? rest : undefined);
    draw();
  });
  const title = `${k + 1}. ${target.type?.replaceAll("_", " ") ?? "?"}`;
  const head = element("header", {}, element("h3", {}, title), element("span", { class: "quiet" }, own?.text ?? ""), out);
  const box = element("section", { class: "target", "aria-label": title, "data-field": `targets.${k}` }, head);
  if (!own) return box;
  const schema = own.options;
  const names = Object.keys(schema.properties);
  const ordered = { ...schema, properties: Object.fromEntries([...names.filter((one) => !COMMON.includes(one)), ...COMMON].map((one) => [one, schema.properties[one]])) };
  const late = (name) => ["group", "level", "held_out", "simulation", "supercell", "relax"].includes(name);
  box.append(objectForm(ordered, schema.$defs ?? {}, target, (name, value) => {
    if (value === undefined) delete target[name]; else target[name] = value;
    touch({ config });
  }, `targets.${k}`, { skip: ["type"], late }));
  return box;
}
