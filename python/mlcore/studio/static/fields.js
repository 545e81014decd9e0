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
  const own = Object.fromEntries(Object.entries(one).filter(([name]) => name.startsWith("x-")));
  if (kinds?.length === 1) return { ...solved(kinds[0], defs), ...own, description: one.description ?? kinds[0].description, default: one.default };
  // any of a number and rows of numbers
  if (kinds?.length && kinds.every((part) => ["number", "integer", "array"].includes(part.type))) return { ...one, anyOf: undefined, type: "numbers" };
  return one;
}

/** What a page knows beside the schema: the config, what can be chosen, and how to draw again. See mlcore.studio.kinds.asked. */
const page = { config: {}, offers: () => [], chosen: () => {}, redraw: () => {} };
export function knowing(told) { Object.assign(page, told); }

const at = (path) => path.split(".").reduce((value, name) => value?.[name], page.config);
const holds = (when) => Object.entries(when ?? {}).every(([path, values]) => values.includes(at(path)));

/** A property as it is for what is chosen now. */
function asked(part) {
  const [path, known] = Object.entries(part["x-by"] ?? {})[0] ?? [];
  return path ? { ...part, ...known[at(path)] } : part;
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
    if (skip.includes(name) || (only && !only.includes(name)) || part.const !== undefined || part["x-hidden"]) continue;
    if (!holds(part["x-when"])) {
      if (value?.[name] !== undefined) changed(name, undefined); // of another choice
      continue;
    }
    const one = solved(asked(part), defs);
    const needed = schema.required?.includes(name);
    const block = oneField(name, one, defs, value?.[name], (v) => changed(name, v), path ? `${path}.${name}` : name, needed);
    (late?.(name) || part["x-late"] ? rest : box).append(block);
  }
  if (rest.childElementCount) {
    const more = element("details", {}, element("summary", {}, "More"), rest);
    return element("div", {}, box, more);
  }
  return box;
}

const unitOf = (one) => (one["x-unit"] ?? "").replaceAll(/@(units\.\w+)/g, (_, path) => at(path) ?? path.slice(6));

/** Values without a form of their own, in words. */
const plain = (value) => (Array.isArray(value) ? value.map(plain).join(", ")
  : typeof value === "boolean" ? (value ? "yes" : "no")
    : value && typeof value === "object" ? Object.entries(value).map(([name, one]) => `${name} ${plain(one)}`).join(" ") : String(value));

function worded(one, defs, value) {
  if (one["x-choose"]) return [value].flat().map((one_) => page.offers(one["x-choose"]).find((offer) => offer.value === one_)?.title ?? one_).join(", ");
  if (one.enum) return one["x-titles"]?.[value] ?? plain(value);
  if (one.type === "array" && one.items?.$ref && Array.isArray(value)) return value.map((part) => worded(solved(one.items, defs), defs, part)).join("; ");
  if (!one.properties || typeof value !== "object") return plain(value);
  const known = new Set(Object.keys(one.properties));
  const rest = Object.fromEntries(Object.entries(value).filter(([name]) => !known.has(name)));
  return [...inWords(one, defs, value).map(([label, text]) => `${label}: ${text}`), ...(Object.keys(rest).length ? [plain(rest)] : [])].join(" · ");
}

/** What a config says, as [label, words]: what is shown in its forms and set. */
export function inWords(schema, defs, value) {
  return Object.entries(schema.properties ?? {}).flatMap(([name, part]) => {
    const own = value?.[name];
    if (empty(own) || part.const !== undefined || part["x-hidden"] || !holds(part["x-when"])) return [];
    const one = solved(asked(part), defs), unit = unitOf(one);
    return [[(one["x-label"] ?? title(name)).replace(", as JSON", ""), `${worded(one, defs, own)}${unit ? ` ${unit}` : ""}`]];
  });
}

function oneField(name, one, defs, value, change, path, needed) {
  const said = (one.description ?? "").replaceAll("`", "").replace(/\bNone\b/g, "nothing");
  const simple = Array.isArray(one.default) && one.default.every((v) => typeof v !== "object");
  const shown = simple ? one.default.join(", ") : empty(one.default) || typeof one.default === "object" ? "" : String(one.default);
  const hint = { placeholder: shown };
  // a unit of the config's own is named there
  const unit = one["x-unit"] ? `, ${unitOf(one)}` : "";
  const label = one["x-label"] ? one["x-label"] + unit : title(name) + (needed ? " (needed)" : "");
  const changed = one["x-redraw"] ? (v) => { change(v); page.redraw(); } : change;
  const add = (input) => labelled(label, input, said, path);
  if (one["x-use"]) return optional(one, label, said, defs, value, change, path);
  if (one["x-choose"]) return chooser(one["x-choose"], label, said, value, change, path);
  if (one["x-grid"] && rowsOf(value)) return grid(one["x-grid"], label, said, value, change, path);
  if (one.enum) {
    const block = add(pick(one, shown, needed, value, changed));
    block.classList.toggle("long", Object.values(one["x-titles"] ?? {}).some((words_) => words_.length > 26));
    return block;
  }
  if (one.type === "array" && one.items?.enum) return ticks(one.items.enum, label, said, value ?? one.default ?? [], changed, path);
  if (one.type === "array" && one.prefixItems?.[0]?.enum) return together(one.prefixItems, label, said, value ?? one.default, changed, path);
  if (one.type === "boolean") return add(tick(value ?? one.default, changed));
  if (one.type === "number" || one.type === "integer") return add(number(value, changed, hint));
  if (one.type === "string") return add(words(value, changed, hint));
  if (one.type === "numbers") return add(numbers(value, changed, shown));
  if (one.type === "array" && ["number", "integer"].includes(one.items?.type ?? one.prefixItems?.[0]?.type)) return add(numbers(value, changed, shown));
  if (one.type === "array" && solved(one.items ?? {}, defs).type === "string") return add(list(value, changed, shown));
  if (one.type === "array" && one.items?.$ref) return several(label, said, solved(one.items, defs), defs, value, changed, path, one);
  if (one.type === "object" && one.properties) {
    const inside = nested(one, defs, value, changed, path);
    return element("fieldset", { class: "wide" }, element("legend", {}, label), said && (!one.ref || one["x-label"]) ? element("p", { class: "quiet help" }, said) : "", inside);
  }
  const named = one.additionalProperties ?? Object.values(one.patternProperties ?? {})[0];
  if (one.type === "object" && named?.type === "number") return pairs(label, said, value, changed, path);
  return add(json(value, changed));
}

/** One of some values, by what they are called; what is left out is the default. */
function pick(one, shown, needed, value, changed) {
  const names = one["x-titles"] ?? {};
  const of = (v) => names[v] ?? String(v);
  const first = shown ? `${of(shown)} (default)` : "–";
  // numbers stay numbers
  const known = (text) => one.enum.find((v) => String(v) === text);
  const rest = one.enum.map((v) => [String(v), of(v)]);
  return choice(needed && !empty(value) ? rest : [["", first], ...rest], empty(value) ? value : String(value), (text) => changed(text === undefined ? undefined : known(text)));
}

/** Some of some values. */
function ticks(values, label, said, value, changed, path) {
  const own = new Set(value);
  const box = element("fieldset", { class: "wide ticks", "data-field": path }, element("legend", {}, label));
  for (const one of values) {
    const input = tick(own.has(one), (on) => { if (on) own.add(one); else own.delete(one); changed(values.filter((v) => own.has(v))); });
    input.id = `f${++made}`;
    box.append(element("span", { class: "row" }, input, element("label", { for: input.id }, one)));
  }
  if (said) box.append(element("p", { class: "quiet help" }, said));
  return box;
}

/** Several choices that are made together. */
function together(parts, label, said, value, changed, path) {
  const own = [...(value ?? [])];
  const box = element("fieldset", { class: "wide ticks", "data-field": path }, element("legend", {}, label));
  parts.forEach((part, k) => box.append(choice(part.enum.map((v) => [v, v]), own[k], (v) => { own[k] = v; changed([...own]); }, { "aria-label": `${label}: ${k + 1} of ${parts.length}` })));
  if (said) box.append(element("p", { class: "quiet help" }, said));
  return box;
}

/** A part of a config that may be left out, or a choice that may be. */
function optional(one, label, said, defs, value, changed, path) {
  const used = !empty(value);
  const begin = structuredClone(one["x-begin"] ?? {});
  const use = tick(used, (on) => { changed(on ? begin : undefined); page.redraw(on ? path : undefined); });
  use.dataset.use = path;
  const box = element("fieldset", { class: "wide", "data-field": path }, element("legend", {}, label), labelled(one["x-use"], use, used ? "" : said));
  if (!used) return box;
  if (said) box.append(element("p", { class: "quiet help" }, said));
  box.append(one["x-choose"] ? chooser(one["x-choose"], label, "", value, changed, path) : nested(one, defs, value, changed, path));
  return box;
}

/** Values by name as rows {name, from, to, count}; nothing where they are something else. */
function rowsOf(value) {
  if (!empty(value) && (typeof value !== "object" || Array.isArray(value))) return undefined;
  const rows = Object.entries(value ?? {}).flatMap(([name, told]) => [told].flat().map((one) => (one && typeof one === "object" ? { name, ...one } : { name, from: one })));
  return rows.some((row) => Array.isArray(row.from)) ? undefined : rows;
}

function valuesOf(rows) {
  const found = {};
  for (const { name, from, to, count } of rows) {
    const one = to === undefined && count === undefined ? from : Object.fromEntries(Object.entries({ from, to, count }).filter(([, v]) => v !== undefined));
    if (name && one !== undefined) (found[name] ??= []).push(one);
  }
  return Object.fromEntries(Object.entries(found).map(([name, some]) => [name, some.length === 1 ? some[0] : some]));
}

/** How many runs rows make; nothing where that is not clear. */
function runsOf(rows) {
  const of = {};
  for (const { name, from, count = 1 } of rows) if (name && from !== undefined) of[name] = (of[name] ?? 0) + count;
  const all = Object.values(of).reduce((product, one) => product * one, 1);
  return Object.keys(of).length && Number.isInteger(all) ? all : undefined;
}

/** Names of what is chosen with a value each, or with ranges: see x-grid. */
function grid(told, label, said, value, changed, path) {
  const names = told.names[at(told.of)] ?? {}, rows = rowsOf(value);
  const box = element("fieldset", { class: "wide", "data-field": path }, element("legend", {}, label), said ? element("p", { class: "quiet help" }, said) : "");
  const many = element("p", { class: "quiet help", "aria-live": "polite" });
  const columns = told.single ? [["from", "Value"]] : [["from", "From"], ["to", "To"], ["count", "How many"]];
  const body = element("tbody"), heads = ["Parameter", ...columns.map(([, head]) => head)];
  const table = element("table", { class: "parameters grid" }, element("caption", { class: "hidden" }, label),
    element("thead", {}, element("tr", {}, ...heads.map((head, k) => element("th", { scope: "col", class: k ? "number" : "" }, head)), element("td"))), body);
  const tell = () => {
    const found = valuesOf(rows);
    changed(Object.keys(found).length ? found : undefined);
    around();
  };
  // how many runs it makes, and where problems of a row are told
  const around = () => {
    const runs = told.single ? undefined : runsOf(rows);
    many.textContent = runs ? `${runs} ${runs === 1 ? "run" : "runs"} in all` : "";
    rows.forEach((row, k) => {
      const same = rows.filter((other) => other.name === row.name);
      const place = `${path}.${row.name}${same.length > 1 ? `.${same.indexOf(row)}` : ""}`;
      for (const input of body.rows[k].querySelectorAll("[data-column]")) input.dataset.field = input.dataset.column === "from" ? place : `${place}.${input.dataset.column}`;
    });
  };
  const draw = () => {
    table.hidden = !rows.length;
    body.replaceChildren(...rows.map((row, k) => {
      const known = Object.entries(names).map(([name, words_]) => [name, `${name}, ${words_}`]);
      const other = row.name && !(row.name in names) ? [[row.name, row.name]] : [];
      const pick_ = choice([...(row.name ? [] : [["", "Choose one"]]), ...known, ...other], row.name, (v) => { row.name = v ?? ""; tell(); }, { "aria-label": `${label}: parameter of row ${k + 1}` });
      const out = element("button", { type: "button", class: "small", "aria-label": `Remove row ${k + 1} of ${label}` }, "Remove");
      out.addEventListener("click", () => { rows.splice(k, 1); draw(); tell(); });
      return element("tr", {}, element("td", {}, pick_), ...columns.map(([name, head]) => element("td", { class: "number" },
        number(row[name], (v) => { row[name] = v; tell(); }, { "data-column": name, "aria-label": `${label}: ${head.toLowerCase()}, row ${k + 1}` }))), element("td", {}, out));
    }));
    around();
  };
  const more = element("button", { type: "button", class: "small" }, "Add a parameter");
  more.addEventListener("click", () => { rows.push({ name: "" }); draw(); body.lastElementChild.querySelector("select").focus(); });
  box.append(table, more, many);
  draw();
  return box;
}

/** One or several of the data sets or tasks that a page offers. */
function chooser(told, label, said, value, changed, path) {
  const offers = page.offers(told);
  const several_ = told.files === "many";
  const own = several_ ? [value ?? []].flat() : [value];
  if (!own.length) own.push(undefined);
  const hand = () => changed(several_ ? own.filter(Boolean) : own[0]);
  const box = element("div", { class: "field choose" });
  const word = told.from === "tasks" ? "task" : "data set";
  own.forEach((reference, k) => {
    const known = offers.some((one) => one.value === reference);
    const first = offers.length ? `Choose a ${word}` : `No ${word} of yours fits`;
    const options = [element("option", { value: "" }, first)];
    const groups = new Map();
    for (const one of offers) {
      const option = element("option", { value: one.value }, one.title);
      if (!one.group) { options.push(option); continue; }
      if (!groups.has(one.group)) { groups.set(one.group, element("optgroup", { label: one.group })); options.push(groups.get(one.group)); }
      groups.get(one.group).append(option);
    }
    // such as one with a pattern of names
    const blank = !reference || /:(ID)?$/.test(reference);
    if (!known && !blank) options.push(element("option", { value: reference }, reference));
    const select = element("select", { "data-field": several_ && own.length > 1 ? `${path}.${k}` : path }, ...options);
    select.value = blank ? "" : reference;
    select.addEventListener("change", () => {
      own[k] = select.value || undefined;
      hand();
      page.chosen(path, select.value);
    });
    if (k) { select.setAttribute("aria-label", `${label}: number ${k + 1}`); box.append(select); }
    else box.append(...labelled(label, select).childNodes);
  });
  if (several_ && offers.length > 1) {
    const more = element("button", { type: "button", class: "small" }, "Add another");
    more.addEventListener("click", () => { own.push(offers.find((one) => !own.includes(one.value))?.value); hand(); page.redraw(); });
    const less = element("button", { type: "button", class: "small" }, "Remove the last");
    less.addEventListener("click", () => { own.pop(); hand(); page.redraw(); });
    box.append(element("div", { class: "row" }, more, ...(own.length > 1 ? [less] : [])));
  }
  if (said) box.append(element("p", { class: "quiet help" }, said));
  if (!offers.length) {
    const where = told.from === "tasks" ? [`/new?kind=${told.kind}`, "Set up such a task"] : ["/data", "Upload data"];
    box.append(element("p", { class: "help" }, element("a", { href: where[0] }, where[1])));
  }
  return box;
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

function several(label, said, one, defs, value, changed, path, told = {}) {
  const item = told["x-item"];
  const own = [...(value?.length ? value : item ? [] : [{}])];
  const box = element("fieldset", { class: "wide" }, element("legend", {}, label), said ? element("p", { class: "quiet help" }, said) : "");
  const draw = () => {
    for (const old of box.querySelectorAll(":scope > .part, :scope > button")) old.remove();
    own.forEach((part, k) => {
      const inside = nested(one, defs, part, (v) => { own[k] = v ?? {}; changed([...own]); }, `${path}.${k}`);
      const name = item ? `${item} ${k + (told["x-from"] ?? 1)}` : `number ${k + 1}`;
      const out = element("button", { type: "button", class: "small" }, `Remove ${item ? name.replace(/^./, (c) => c.toLowerCase()) : name}`);
      out.addEventListener("click", () => { own.splice(k, 1); changed(own.length ? [...own] : undefined); draw(); });
      box.append(element("div", { class: "part" }, ...(item ? [element("strong", { class: "item" }, name)] : []), inside, out));
    });
    const more = element("button", { type: "button", class: "small" }, item ? `Add ${/^[aeiou]/i.test(item) ? "an" : "a"} ${item.toLowerCase()}` : "Add another");
    more.addEventListener("click", () => { own.push({}); if (item) changed([...own]); draw(); });
    box.append(more);
  };
  draw();
  return box;
}

function numbers(value, changed, shown = "") {
  const input = element("input", { placeholder: shown || "numbers, parted by commas" });
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

function list(value, changed, shown = "") {
  const input = element("input", { placeholder: shown || "words, parted by commas" });
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
