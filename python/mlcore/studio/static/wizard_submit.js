// The last step: name, summary, what is still wrong.
import { element } from "/static/studio.js";
import { config, draft, id, kind, onProblems, stepOf, touch } from "/static/wizard.js";
import { measuring } from "/static/cost.js";

const title = document.getElementById("title");
title.addEventListener("input", () => {
  if (!title.value.trim()) return;
  draft.title = title.value.trim();
  document.getElementById("task-title").textContent = draft.title;
  touch({ title: draft.title });
});

function rows() {
  if (kind !== "forcefield") return Object.entries(config).filter(([name]) => !["format", "version"].includes(name)).map(([name, value]) => [name, short(value)]);
  const { model = {}, parameters = {}, data, targets = [], objective = {}, search = {}, run = {} } = config;
  const free = Array.isArray(parameters.free) ? parameters.free : Object.keys(parameters.free ?? {});
  const groups = Object.entries(data?.groups ?? {}).map(([name, one]) => `${name} (${["energy", "forces", "stress"].filter((k) => one[k]).map((k) => `${k} ${one[k]}`).join(", ") || "nothing"}${one.held_out ? ", held out" : ""})`);
  return [
    ["Model", `${model.form ?? "none"} for ${(model.species ?? []).join(", ")}`],
    ["Free parameters", `${free.length}: ${free.slice(0, 16).join(", ")}${free.length > 16 ? " …" : ""}`],
    ["Ties and constraints", [...Object.entries(parameters.ties ?? {}).map(([a, b]) => `${a} = ${b}`), ...(parameters.constraints ?? [])].slice(0, 8).join("; ") || "none"],
    ["Data", groups.join("; ") || (data ? "all groups alike" : "none")],
    ["Held out", data?.held_out ? `${Math.round(100 * data.held_out.fraction)} % of every group` : "no part of the groups"],
    ["Properties", targets.map((one) => one.name ?? one.type).join(", ") || "none"],
    ["Objective", `${objective.kind ?? "sse"}${objective.pareto?.length ? `, front of ${objective.pareto.join(", ")}` : ""}`],
    ["Search", search.stages?.length ? search.stages.map((one) => one.name).join(", then ") : search.name ?? "default"],
    ["Budget", `${run.budget ?? 2000} evaluations, seed ${run.seed ?? 0}`],
    ["Who works", `${draft.workers} × ${draft.engine}`],
  ];
}

const short = (value) => { const text = typeof value === "string" ? value : JSON.stringify(value); return text.length > 300 ? `${text.slice(0, 300)} …` : text; };

document.getElementById("summary").replaceChildren(...rows().flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
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
