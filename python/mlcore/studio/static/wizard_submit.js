// The last step: name, summary, what is still wrong.
import { ask, element } from "/static/studio.js";
import { config, draft, id, kind, onProblems, stepOf, touch } from "/static/wizard.js";
import { measuring } from "/static/cost.js";
import { inWords, knowing } from "/static/fields.js";

const title = document.getElementById("title");
title.addEventListener("input", () => {
  if (!title.value.trim()) return;
  draft.title = title.value.trim();
  document.getElementById("task-title").textContent = draft.title;
  touch({ title: draft.title });
});

const KINDS = { sse: "mean of squares", huber: "Huber", max: "largest term", logsumexp: "smooth largest term" };
const search = (name) => (name ?? "default").replaceAll("_", " ");

/** A kind whose forms are made of its schema is told by the same words. */
async function ofSchema() {
  const [schema, uploads, tasks] = await Promise.all([ask(`/kinds/${kind}/schema`), ask("/uploads"), ask("/tasks?state=done&count=200")]);
  const offers = (told) => (told.from === "tasks" ? tasks.tasks.map((one) => ({ value: `task:${one.id}`, title: one.title }))
    : uploads.flatMap((one) => [{ value: `upload:${one.id}`, title: one.title }, ...(one.summary.files ?? []).map((file) => ({ value: `upload:${one.id}/${file.name}`, title: file.name }))]));
  knowing({ config, offers });
  const engine = schema["x-engines"]?.length ? [["Who works", `${draft.workers} × ${draft.engine}`]] : [];
  return [...inWords(schema, schema.$defs ?? {}, config), ...engine];
}

async function rows() {
  if (kind !== "forcefield") return ofSchema();
  const { model = {}, parameters = {}, data, targets = [], objective = {}, search: ways = {}, run = {} } = config;
  const free = Array.isArray(parameters.free) ? parameters.free : Object.keys(parameters.free ?? {});
  const groups = Object.entries(data?.groups ?? {}).map(([name, one]) => `${name} (${["energy", "forces", "stress"].filter((k) => one[k]).map((k) => `${k} ${one[k]}`).join(", ") || "nothing"}${one.held_out ? ", held out" : ""})`);
  return [
    ["Model", `${model.form ?? "none"} for ${(model.species ?? []).join(", ")}`],
    ["Free parameters", `${free.length}: ${free.slice(0, 16).join(", ")}${free.length > 16 ? " …" : ""}`],
    ["Ties and constraints", [...Object.entries(parameters.ties ?? {}).map(([a, b]) => `${a} = ${b}`), ...(parameters.constraints ?? [])].slice(0, 8).join("; ") || "none"],
    ["Data", groups.join("; ") || (data ? "all groups alike" : "none")],
    ["Held out", data?.held_out ? `${Math.round(100 * data.held_out.fraction)} % of every group` : "no part of the groups"],
    ["Properties", targets.map((one) => one.name ?? one.type).join(", ") || "none"],
    ["Objective", `${KINDS[objective.kind ?? "sse"] ?? objective.kind}${objective.pareto?.length ? `, front of ${objective.pareto.join(", ")}` : ""}`],
    ["Search", ways.stages?.length ? ways.stages.map((one) => search(one.name)).join(", then ") : search(ways.name)],
    ["Budget", `${run.budget ?? 2000} evaluations, seed ${run.seed ?? 0}`],
    ["Who works", `${draft.workers} × ${draft.engine}`],
  ];
}

const summary = document.getElementById("summary");
rows().then((told) => summary.replaceChildren(...told.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)])));
document.getElementById("whole").textContent = JSON.stringify(config, null, 1);
onProblems((problems) => {
  const box = document.getElementById("check");
  const list = problems.map((one) => {
    const step = stepOf(one);
    const text = one.field ? `${one.field}: ${one.message}` : one.message;
    return element("li", {}, step ? element("a", { href: `/drafts/${id}/${step.dataset.step}` }, text) : text);
  });
  box.replaceChildren(problems.length ? element("ul", { class: "problems" }, ...list) : element("p", {}, "Nothing is wrong: it can be submitted."));
  document.getElementById("submit").disabled = problems.length > 0;
});
measuring();
