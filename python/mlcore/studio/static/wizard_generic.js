// A step made of the schema of a kind that has no form of its own for it.
import { ask, element } from "/static/studio.js";
import { config, kind, put, show } from "/static/wizard.js";
import { objectForm } from "/static/fields.js";
import { dropping } from "/static/uploading.js";

const root = document.getElementById("generic");
const own = root.dataset.fields.split(" ").filter(Boolean);
const [schema, uploads, tasks] = await Promise.all([ask(`/kinds/${kind}/schema`), ask("/uploads"), ask("/tasks?state=done&count=100")]);
const references = document.getElementById("references");
const known = own.filter((name) => schema.properties?.[name]);
const chooser = document.getElementById("reference");

/** All texts in the step's part of the config that name a data set, each with how to change it. */
function* named(value, path) {
  if (typeof value === "string" && value.startsWith("upload:")) yield [value, path];
  else if (value && typeof value === "object") for (const [name, one] of Object.entries(value)) yield* named(one, [...path, Array.isArray(value) ? Number(name) : name]);
}
const uses = () => known.flatMap((name) => [...named(config[name], [name])]);

/** Every text that named the first data set of the step names another. */
function use(id) {
  const first = uses()[0]?.[0].split("/")[0];
  for (const [text, path] of uses()) if (text.split("/")[0] === first) put(path, text.replace(first, `upload:${id}`));
  draw();
}

function draw() {
  const made = objectForm(schema, schema.$defs ?? {}, config, (name, value) => put([name], value), "", { only: known });
  // a config's own fields have no place above them
  for (const one of made.querySelectorAll("[data-field]")) one.dataset.field = one.dataset.field.replace(/^\./, "");
  document.getElementById("fields").replaceChildren(known.length ? made : element("p", { class: "quiet" }, "Nothing is set here."));
  const now = uses()[0]?.[0].split("/")[0].slice(7);
  document.getElementById("of-data").hidden = now === undefined;
  chooser.replaceChildren(element("option", { value: "" }, "none yet"), ...uploads.map((one) => element("option", { value: one.id }, `${one.title} (${one.kind})`)));
  chooser.value = uploads.some((one) => one.id === now) ? now : "";
  references.replaceChildren(...uploads.map((one) => element("option", { value: `upload:${one.id}` }, one.title)),
    ...tasks.tasks.map((one) => element("option", { value: `task:${one.id}` }, one.title)));
  show();
}

const working = document.getElementById("working");
const say = (text, bad) => { working.className = bad ? "error" : "quiet"; working.textContent = text; };
chooser.addEventListener("change", () => { if (chooser.value) use(chooser.value); });
dropping(document.getElementById("drop"), document.getElementById("file"), {
  say: (text) => say(text, false), wrong: (text) => { if (text) say(text, true); },
  done: (upload) => { uploads.unshift(upload); use(upload.id); },
});
draw();
