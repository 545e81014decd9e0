// Inputs with labels, and forms made of JSON schemas. Values go to a callback; nothing here knows drafts.
import { element } from "/static/studio.js";

let made = 0;
const LISTS = /,|\s+/;

/** A label, an input and a word of help in a block. `field` is the config's path, for problems. */
export function labelled(text, input, help = "", field = "") {
  input.id ||= `f${++made}`;
  if (field) input.dataset.field = field;
  const box = element("div", { class: input.type === "checkbox" ? "field check" : "field" });
  const label = element("label", { for: input.id }, text);
  if (input.type === "checkbox") box.append(input, label); else box.append(label, input);
  if (help) box.append(element("p", { class: "quiet help" }, help));
  return box;
}

/** A number; what is no number is handed on as text, so that the check can tell. */
export function number(value, changed, attributes = {}) {
  const input = element("input", { inputmode: "decimal", class: "number", ...attributes });
  input.value = value ?? "";
  input.addEventListener("input", () => changed(parsed(input.value)));
  return input;
}

export function parsed(text) {
  const bare = text.trim();
  if (bare === "") return undefined;
  const found = Number(bare);
  return Number.isFinite(found) ? found : bare;
}

export function words(value, changed, attributes = {}) {
  const input = element("input", attributes);
  input.value = value ?? "";
  input.addEventListener("input", () => changed(input.value === "" ? undefined : input.value));
  return input;
}

export function tick(value, changed, attributes = {}) {
  const input = element("input", { type: "checkbox", ...attributes });
  input.checked = Boolean(value);
  input.addEventListener("change", () => changed(input.checked));
  return input;
}

export function choice(options, value, changed, attributes = {}) {
  const select = element("select", attributes);
  for (const [name, title] of options) select.append(element("option", { value: name }, title));
  select.value = value ?? "";
  select.addEventListener("change", () => changed(select.value === "" ? undefined : select.value));
  return select;
}

/** JSON as text, for what has no form of its own. */
export function json(value, changed, attributes = {}) {
  const area = element("textarea", { rows: "2", spellcheck: "false", class: "code", ...attributes });
  area.value = value === undefined ? "" : JSON.stringify(value);
  area.addEventListener("input", () => {
    if (area.value.trim() === "") return changed(undefined);
    try { changed(JSON.parse(area.value)); } catch { changed(area.value); }
    return undefined;
  });
  return area;
}

function solved(schema, defs) {
  let one = schema;
  if (one.$ref) one = { ...defs[one.$ref.split("/").at(-1)], ...one, $ref: undefined, ref: one.$ref.split("/").at(-1) };
  const kinds = (one.anyOf ?? one.oneOf)?.filter((part) => part.type !== "null");
  if (kinds?.length === 1) return { ...solved(kinds[0], defs), description: one.description ?? kinds[0].description, default: one.default };
  // any of a number and rows of numbers
  if (kinds?.length && kinds.every((part) => part.type === "number" || part.type === "array")) return { ...one, anyOf: undefined, type: "numbers" };
  return one;
}

const title = (name) => (name.length === 1 ? name : name.replaceAll("_", " ").replace(/^./, (c) => c.toUpperCase()));
const empty = (value) => value === undefined || value === null;

/**
 * Fields of an object.
 * @param schema of the object; `defs` of what it refers to
 * @param value the object as it is
 * @param changed called with (name, value); undefined: taken out
 * @param path of the object in the config, for problems
 * @param only names to show, all where left out; `late`: names that go into a closed part
 */
export function objectForm(schema, defs, value, changed, path, { only, skip = [], late } = {}) {
  const box = element("div", { class: "fields" });
  const rest = element("div", { class: "fields" });
  for (const [name, part] of Object.entries(schema.properties ?? {})) {
    if (skip.includes(name) || (only && !only.includes(name)) || part.const !== undefined) continue;
    const one = solved(part, defs);
    const needed = schema.required?.includes(name);
    const block = oneField(name, one, defs, value?.[name], (v) => changed(name, v), `${path}.${name}`, needed);
    (late?.(name) ? rest : box).append(block);
  }
  if (rest.childElementCount) {
    const more = element("details", {}, element("summary", {}, "More"), rest);
    return element("div", {}, box, more);
  }
  return box;
}

function oneField(name, one, defs, value, changed, path, needed) {
  const said = (one.description ?? "").replaceAll("`", "").replace(/\bNone\b/g, "nothing");
  const shown = empty(one.default) || typeof one.default === "object" ? "" : String(one.default);
  const hint = { placeholder: shown };
  const label = title(name) + (needed ? " (needed)" : "");
  const add = (input) => labelled(label, input, said, path);
  if (one.enum) return add(choice([["", shown ? `(${shown})` : "–"], ...one.enum.map((v) => [String(v), String(v)])], value, changed));
  if (one.type === "boolean") return add(tick(value ?? one.default, changed));
  if (one.type === "number" || one.type === "integer") return add(number(value, changed, hint));
  if (one.type === "string") return add(words(value, changed, document.getElementById("references") ? { ...hint, list: "references" } : hint));
  if (one.type === "numbers") return add(numbers(value, changed));
  if (one.type === "array" && ["number", "integer"].includes(one.items?.type ?? one.prefixItems?.[0]?.type)) return add(numbers(value, changed));
  if (one.type === "array" && solved(one.items ?? {}, defs).type === "string") return add(list(value, changed));
  if (one.type === "array" && one.items?.$ref) return several(label, said, solved(one.items, defs), defs, value, changed, path);
  if (one.type === "object" && one.properties) {
    const inside = nested(one, defs, value, changed, path);
    return element("fieldset", { class: "wide" }, element("legend", {}, label), said && !one.ref ? element("p", { class: "quiet help" }, said) : "", inside);
  }
  if (one.type === "object" && one.additionalProperties?.type === "number") return pairs(label, said, value, changed, path);
  return add(json(value, changed));
}

/** Names that a schema allows and does not tell, as JSON. */
function further(one, value, changed) {
  const known = Object.keys(one.properties);
  const rest = Object.fromEntries(Object.entries(value).filter(([name]) => !known.includes(name)));
  const area = json(Object.keys(rest).length ? rest : undefined, (v) => {
    if (v !== undefined && (typeof v !== "object" || Array.isArray(v))) return;
    for (const name of Object.keys(rest)) delete rest[name];
    Object.assign(rest, v);
    changed({ ...Object.fromEntries(Object.entries(value).filter(([name]) => known.includes(name))), ...rest });
  });
  return labelled("Further arguments, as JSON", area, "Those that its kind takes.");
}

const STRUCTURE = ["crystal", "of", "a", "c", "cubic", "data", "index"];

function nested(one, defs, value, changed, path) {
  const own = { ...value };
  const set = (name, v) => {
    if (empty(v)) delete own[name]; else own[name] = v;
    changed(Object.keys(own).length ? { ...own } : undefined);
  };
  const late = one.ref === "Structure" ? (name) => !STRUCTURE.includes(name) : undefined;
  const made = objectForm(one, defs, own, set, path, { late, skip: one.ref === "Structure" ? ["file"] : [] });
  if (one.additionalProperties !== true) return made;
  const more = further(one, own, (v) => { for (const name of Object.keys(own)) delete own[name]; Object.assign(own, v); changed({ ...own }); });
  more.classList.add("wide");
  return element("div", {}, made, more);
}

function several(label, said, one, defs, value, changed, path) {
  const own = [...(value?.length ? value : [{}])];
  const box = element("fieldset", { class: "wide" }, element("legend", {}, label), said ? element("p", { class: "quiet help" }, said) : "");
  const draw = () => {
    for (const old of box.querySelectorAll(":scope > .part, :scope > button")) old.remove();
    own.forEach((part, k) => {
      const inside = nested(one, defs, part, (v) => { own[k] = v ?? {}; changed([...own]); }, `${path}.${k}`);
      const out = element("button", { type: "button", class: "small" }, `Remove number ${k + 1}`);
      out.addEventListener("click", () => { own.splice(k, 1); changed(own.length ? [...own] : undefined); draw(); });
      box.append(element("div", { class: "part" }, inside, out));
    });
    const more = element("button", { type: "button", class: "small" }, "Add another");
    more.addEventListener("click", () => { own.push({}); draw(); });
    box.append(more);
  };
  draw();
  return box;
}

function numbers(value, changed) {
  const input = element("input", { placeholder: "numbers, parted by commas" });
  const nested_ = Array.isArray(value) && value.some(Array.isArray);
  input.value = empty(value) ? "" : nested_ ? JSON.stringify(value) : [value].flat().join(", ");
  input.addEventListener("input", () => {
    const text = input.value.trim();
    if (!text) return changed(undefined);
    if (text.startsWith("[")) { try { return changed(JSON.parse(text)); } catch { return changed(text); } }
    const found = text.split(LISTS).filter(Boolean).map(Number);
    return changed(found.some(Number.isNaN) ? text : found);
  });
  return input;
}

function list(value, changed) {
  const input = element("input", { placeholder: "words, parted by commas" });
  input.value = (value ?? []).join(", ");
  input.addEventListener("input", () => {
    const found = input.value.split(",").map((one) => one.trim()).filter(Boolean);
    changed(found.length ? found : undefined);
  });
  return input;
}

/** Name and number, as many as wanted: {"C11": 142}. */
function pairs(label, said, value, changed, path) {
  const rows = Object.entries(value ?? {});
  if (!rows.length) rows.push(["", undefined]);
  const box = element("fieldset", { class: "wide" }, element("legend", {}, label), said ? element("p", { class: "quiet help" }, said) : "");
  const body = element("div", { class: "pairs", "data-field": path });
  const tell = () => {
    const found = Object.fromEntries(rows.filter(([name, v]) => name && !empty(v)));
    changed(Object.keys(found).length ? found : undefined);
  };
  const draw = () => {
    body.replaceChildren(...rows.map((row, k) => element("span", { class: "row" },
      words(row[0], (v) => { row[0] = v ?? ""; tell(); }, { "aria-label": `${label}: name ${k + 1}`, size: "8", placeholder: "name" }),
      number(row[1], (v) => { row[1] = v; tell(); }, { "aria-label": `${label}: number ${k + 1}`, size: "9" }))));
    const more = element("button", { type: "button", class: "small" }, "Add");
    more.addEventListener("click", () => { rows.push(["", undefined]); draw(); body.querySelector(".row:last-of-type input").focus(); });
    body.append(more);
  };
  draw();
  box.append(body);
  return box;
}
