// A step made of the schema of a kind that has no form of its own for it.
import { ask, element } from "/static/studio.js";
import { config, kind, put, show } from "/static/wizard.js";
import { objectForm } from "/static/fields.js";

const root = document.getElementById("generic");
const schema = await ask(`/kinds/${kind}/schema`);
const own = root.dataset.fields.split(" ").filter(Boolean);
const known = own.filter((name) => schema.properties?.[name]);
const made = objectForm(schema, schema.$defs ?? {}, config, (name, value) => put([name], value), "", { only: known });
// a config's own fields have no place above them
for (const one of made.querySelectorAll("[data-field]")) one.dataset.field = one.dataset.field.replace(/^\./, "");
document.getElementById("fields").replaceChildren(known.length ? made : element("p", { class: "quiet" }, "Nothing is set here."));
show();
