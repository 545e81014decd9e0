// A step of a kind that has no form of its own for it, made of its schema: see mlcore.studio.kinds.asked.
import { ask, attempt, element } from "/static/studio.js";
import { config, draft, kind, put, show, touch } from "/static/wizard.js";
import { choice, knowing, labelled, number, objectForm } from "/static/fields.js";
import { dropping } from "/static/uploading.js";

const root = document.getElementById("generic");
const own = root.dataset.fields.split(" ").filter(Boolean);
const [schema, uploads, tasks, engines] = await Promise.all([ask(`/kinds/${kind}/schema`), ask("/uploads"), ask("/tasks?state=done&count=200"), ask("/engines")]);
const names = own.filter((name) => schema.properties?.[name]);
const defs = schema.$defs ?? {};

// -- what can be chosen --------------------------------------------------------------------------
/** Whether a data set is what a choice asks for. */
function fits(told, upload) {
  if (!told.kinds.includes(upload.kind)) return false;
  const format = upload.summary.format ?? upload.kind;
  if (upload.kind === "runs" && told.formats && !told.formats.includes(format)) return false;
  return !told.endings || filesOf(told, upload).length > 0;
}
const filesOf = (told, upload) => (upload.summary.files ?? []).filter((one) => (told.endings ?? [""]).some((ending) => one.name.toLowerCase().endsWith(ending)));

function offers(told) {
  if (told.from === "tasks") return tasks.tasks.filter((one) => one.kind === told.kind).map((one) => ({ value: `task:${one.id}`, title: `${one.title}, ${one.summary}` }));
  return uploads.filter((one) => fits(told, one)).flatMap((one) => {
    const files = filesOf(told, one);
    const whole = { value: `upload:${one.id}`, title: `${one.title} (${one.kind}${files.length > 1 ? `, ${files.length} files` : ""})` };
    if (!told.files || files.length < 2) return [whole];
    const each = files.map((file) => ({ value: `upload:${one.id}/${file.name}`, title: file.name, group: one.title }));
    return told.files === "one" ? each : [whole, ...each];
  });
}

/** Choices among uploads in this step, with their places. */
function* choices(value, part, path) {
  const one = part.$ref ? defs[part.$ref.split("/").at(-1)] : part.anyOf ? part.anyOf.find((other) => other.type !== "null") : part;
  if (part["x-choose"]) { yield [part["x-choose"], path]; return; }
  if (one?.$ref) yield* choices(value, one, path);
  else if (one?.properties && value) for (const [name, inner] of Object.entries(one.properties)) yield* choices(value[name], inner, [...path, name]);
  else if (one?.items && Array.isArray(value)) for (const [k, inner] of value.entries()) yield* choices(inner, one.items, [...path, k]);
}
const asked = () => names.flatMap((name) => [...choices(config[name], schema.properties[name], [name])]).filter(([told]) => told.from === "uploads");

/** Every text in a config that names nothing yet. */
const blank = (value) => typeof value === "string" ? /^(upload|task):(ID)?$/.test(value)
  : Boolean(value) && typeof value === "object" && Object.values(value).some(blank);

// -- what the data tell --------------------------------------------------------------------------
function told(notes) {
  const list = document.getElementById("told");
  list.hidden = !notes.length;
  list.replaceChildren(element("li", {}, element("strong", {}, "Filled in from your data")), ...notes.map((one) => element("li", {}, one)));
}

/** Fill in what the data tell, of `upload` where one is named. */
async function fill(upload) {
  const found = await ask(`/kinds/${kind}/filled`, "POST", { config, ...(upload ? { upload } : {}) });
  if (JSON.stringify(found.config) === JSON.stringify(config)) return;
  for (const name of Object.keys(config)) if (!(name in found.config)) delete config[name];
  Object.assign(config, found.config);
  touch({ config });
  told(found.notes);
  draw();
}

// -- forms ---------------------------------------------------------------------------------------
const plain = (name) => {
  const part = schema.properties[name];
  const one = part.$ref ? defs[part.$ref.split("/").at(-1)] : part;
  return !one.properties && !part["x-use"] && !(one.type === "array" && part.items?.$ref);
};

/** A card for each part of the step; those of one field are together. */
function draw(focus) {
  const before = focus ?? document.activeElement?.dataset?.field;
  const loose = names.filter(plain);
  const groups = [...(loose.length ? [loose] : []), ...names.filter((name) => !plain(name)).map((name) => [name])];
  const cards = groups.map((only) => {
    const made = objectForm(schema, defs, config, (name, value) => put([name], value), "", { only });
    return made.querySelector(".field, fieldset") ? element("section", { class: "card form" }, made) : "";
  });
  const who = schema["x-step"] === document.getElementById("wizard").dataset.step ? [workers()] : [];
  document.getElementById("fields").replaceChildren(...cards, ...who);
  document.getElementById("of-data").hidden = !asked().length;
  document.getElementById("fields").classList.toggle("first", !asked().length);
  if (!names.length && !who.length) document.getElementById("fields").append(element("p", { class: "quiet" }, "Nothing is set here."));
  const now = before && [...document.querySelectorAll("#fields [data-field], #fields [data-use]")].find((one) => (one.dataset.field ?? one.dataset.use) === before && one.matches("input, select, textarea"));
  now?.focus();
  show();
}

// -- workers -------------------------------------------------------------------------------------
const local = engines.filter((one) => (schema["x-engines"] ?? []).includes(one.kind));

/** A task that cannot run where it would has another engine, or one worker. */
function settled() {
  if (local.some((one) => one.name === draft.engine)) return;
  const [first] = local;
  const now = first ? { engine: first.name, workers: first.workers } : { workers: 1 };
  if (draft.workers === now.workers && !first) return;
  Object.assign(draft, now);
  touch(now);
}

function workers() {
  const most = local.find((one) => one.name === draft.engine)?.workers ?? 1;
  const box = element("section", { class: "card form", "aria-labelledby": "who-title" }, element("h2", { id: "who-title" }, "Who works"));
  const inside = element("div", { class: "fields" });
  if (local.length > 1) {
    inside.append(labelled("Engine", choice(local.map((one) => [one.name, `${one.name}, ${one.workers === 1 ? "one core" : `up to ${one.workers} cores`}`]), draft.engine, (name) => {
      const one = local.find((other) => other.name === name);
      Object.assign(draft, { engine: name, workers: one.workers });
      touch({ engine: name, workers: one.workers });
      draw();
    }), "As the administrator set them up; those of other machines do nothing for this kind."));
  }
  if (most > 1) {
    inside.append(labelled("Cores", number(draft.workers, (count) => {
      if (!Number.isInteger(count) || count < 1 || count > most) return;
      draft.workers = count;
      touch({ workers: count });
    }), `Of the server, for runs, estimates and cells; networks of this size train on one. From 1 to ${most}.`));
  } else inside.append(element("p", { class: "quiet" }, "One core of the server."));
  box.append(inside);
  return box;
}

// -- beginning -----------------------------------------------------------------------------------
knowing({ config, offers, redraw: draw, chosen: (path, value) => {
  if (value && asked().some(([, place]) => `.${place.join(".")}` === path || place.join(".") === path)) attempt(() => fill(value.startsWith("upload:") && !value.includes("/") ? value.slice(7) : undefined));
  else attempt(() => fill());
} });
const working = document.getElementById("working");
const say = (text, bad) => { working.className = bad ? "error" : "quiet"; working.textContent = text; };
dropping(document.getElementById("drop"), document.getElementById("file"), {
  say: (text) => say(text, false), wrong: (text) => { if (text) say(text, true); },
  done: async (upload) => {
    uploads.unshift(upload);
    const [first] = asked();
    if (first && !fits(first[0], upload)) { say(`${upload.title} is ${upload.kind}; that is not what is asked for here.`, true); draw(); return; }
    await fill(upload.id);
    // of what data tell nothing they are chosen all the same
    const value = `upload:${upload.id}`;
    if (first && !JSON.stringify(config).includes(value)) put(first[1], first[0].files === "many" ? [value] : value);
    draw();
  },
});
settled();
draw();
if (blank(config)) {
  // the data set that people came from, else the newest
  const came = document.referrer.startsWith(location.origin) ? new URL(document.referrer).searchParams.get("upload") : null;
  await attempt(() => fill(came && uploads.some((one) => one.id === came) ? came : undefined));
}
