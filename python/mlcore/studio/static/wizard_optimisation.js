// The step of the optimisation: searches with their options, budget, engine, and what it will cost.
import { ask, element } from "/static/studio.js";
import { config, draft, get, put, show, touch } from "/static/wizard.js";
import { choice, labelled, number, objectForm } from "/static/fields.js";
import { measuring } from "/static/cost.js";

const [searches, engines] = await Promise.all([ask("/searches"), ask("/engines")]);
const LOCAL = ["least_squares", "geodesic", "nelder_mead", "powell", "lbfgsb"];
const single = searches.filter((one) => one.name !== "two_stage");
const root = document.getElementById("searches");

/** Where a search's name and options are in the config. */
function searchCard(path, title, more) {
  const now = get([...path, "name"]) ?? "default";
  const own = searches.find((one) => one.name === now);
  const select = choice(single.map((one) => [one.name, one.name.replaceAll("_", " ")]), now, (v) => {
    put([...path, "name"], v);
    put([...path, "options"], undefined);
    draw();
    document.getElementById(select.id)?.focus();
  }, { id: `search-${path.join("-")}` });
  const parts = [labelled(title, select, own ? own.text.split("\n\n")[0] : "", [...path, "name"].join(".")), more ?? ""];
  if (own && Object.keys(own.options.properties ?? {}).length) {
    const inside = objectForm(own.options, own.options.$defs ?? {}, get([...path, "options"]) ?? {}, (name, value) => {
      put([...path, "options", name], value);
      if (!Object.keys(get([...path, "options"]) ?? {}).length) put([...path, "options"], undefined);
    }, [...path, "options"].join("."));
    const rest = own.text.split("\n\n").slice(1).join(" ");
    parts.push(element("details", {}, element("summary", {}, "Options"), rest ? element("p", { class: "quiet" }, rest) : "", inside));
  }
  return element("div", { role: "group", "aria-label": title }, ...parts);
}

function draw() {
  const two = (config.search?.stages ?? []).length === 2;
  for (const radio of document.getElementsByName("stages")) radio.checked = radio.value === (two ? "2" : "1");
  if (!two) root.replaceChildren(searchCard(["search"], "Search"));
  else {
    const part = element("div", { class: "fields" }, labelled("Evaluations of the first", number(get(["search", "stages", 0, "evaluations"]), (v) => put(["search", "stages", 0, "evaluations"], v), { placeholder: "half of the budget" }), "", "search.stages.0.evaluations"));
    const best = element("div", { class: "fields" }, labelled("Points it is handed", number(get(["search", "stages", 1, "best"]), (v) => put(["search", "stages", 1, "best"], v), { placeholder: "1" }), "", "search.stages.1.best"));
    root.replaceChildren(searchCard(["search", "stages", 0], "First, global", part), searchCard(["search", "stages", 1], "Then, local", best));
  }
  show();
}

for (const radio of document.getElementsByName("stages")) radio.addEventListener("change", () => {
  if (radio.value === "1") put(["search"], { name: "default" });
  else {
    const first = config.search?.name && ![...LOCAL, "default"].includes(config.search.name) ? config.search.name : "cma";
    put(["search"], { stages: [{ name: first }, { name: "least_squares", best: 3 }] });
  }
  draw();
});

function drawRun() {
  const set = (name, v) => { put(["run", name], v); if (!Object.keys(config.run ?? {}).length) put(["run"], undefined); };
  const field = (name, title, usual, help) => labelled(title, number(config.run?.[name], (v) => set(name, v), { placeholder: String(usual) }), help, `run.${name}`);
  const engine = engines.find((one) => one.name === draft.engine) ?? engines[0];
  const workers = number(draft.workers, (v) => {
    const fits = Number.isInteger(v) && v >= 1 && v <= engine.workers;
    workers.setAttribute("aria-invalid", String(!fits));
    if (fits) { draft.workers = v; touch({ workers: v }); }
  }, { id: "workers" });
  workers.disabled = engine.workers === 1;
  const evaluator = choice([["", "(auto)"], ["auto", "auto"], ["native", "the core's own kernels"], ["lammps", "LAMMPS"]], config.run?.evaluator, (v) => set("evaluator", v));
  document.getElementById("run").replaceChildren(
    field("budget", "Budget, evaluations", 2000, "The fit ends after these."),
    field("seed", "Seed", 0, "The same seed gives the same fit."),
    labelled("Engine", choice(engines.map((one) => [one.name, one.name === one.kind ? one.name : `${one.name} (${one.kind})`]), engine.name, (v) => {
      draft.engine = v;
      draft.workers = Math.min(draft.workers, engines.find((one) => one.name === v).workers);
      touch({ engine: v, workers: draft.workers });
      drawRun();
    }), "Who evaluates candidates."),
    labelled("Workers", workers, `1 to ${engine.workers}`),
    field("timeout", "Longest time of a candidate, s", "none", "Its worker is replaced afterwards."),
    labelled("Evaluator", evaluator, "auto: the core's kernels where they know the form.", "run.evaluator"),
    field("cutoff_cap", "Largest cutoff of a candidate, Å", 12, ""));
  show();
}

draw();
drawRun();
measuring();
