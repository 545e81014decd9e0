// The step of the objective: how residuals become one number, or several.
import { element } from "/static/studio.js";
import { config, get, put, show } from "/static/wizard.js";
import { choice, labelled, number, words } from "/static/fields.js";

const KINDS = [
  ["sse", "Mean of squares", "Least squares: the weighted mean of squared terms."],
  ["huber", "Huber", "Squares up to a width, linear beyond it: outliers count less."],
  ["max", "Largest", "The largest term alone."],
  ["logsumexp", "Smooth largest", "A smooth largest term; its softness is the width."],
  ["formula", "Arithmetic of targets", "Such as forces + 10*elastic: of mean squares, by names of targets."],
];
const named = () => (KINDS.some(([name]) => name === (config.objective?.kind ?? "sse")) ? config.objective?.kind ?? "sse" : "formula");
const box = document.getElementById("objective");

function set(name, value) {
  put(["objective", name], value);
  if (!Object.keys(config.objective ?? {}).length) put(["objective"], undefined);
}

function drawKind() {
  const now = named();
  const select = choice(KINDS.map(([name, title]) => [name, title]), now, (v) => {
    set("kind", v === "formula" ? "" : v);
    drawKind();
    document.getElementById("objective-kind").focus();
  }, { id: "objective-kind" });
  const parts = [labelled("Kind", select, KINDS.find(([name]) => name === now)[2], now === "formula" ? "" : "objective.kind")];
  if (now === "formula") parts.push(labelled("Formula", words(config.objective?.kind, (v) => set("kind", v ?? "")), "", "objective.kind"));
  if (["huber", "logsumexp"].includes(now)) parts.push(labelled("Width, in tolerances", number(config.objective?.delta, (v) => set("delta", v), { placeholder: "1" }), "", "objective.delta"));
  box.replaceChildren(...parts);
  show();
}

function levels() {
  const own = new Set([0]);
  for (const group of Object.values(config.data?.groups ?? {})) own.add(group.level ?? 0);
  own.add(config.data?.weights?.level ?? 0);
  for (const target of config.targets ?? []) own.add(target.level ?? 0);
  for (const level of Object.keys(config.objective?.tolerances ?? {})) own.add(Number(level));
  return [...own].sort((a, b) => a - b);
}

function drawLevels() {
  const fields = levels().map((level) => labelled(`Level ${level}: largest root mean square that passes`,
    number(get(["objective", "tolerances", String(level)]), (v) => {
      put(["objective", "tolerances", String(level)], v);
      if (!Object.keys(config.objective?.tolerances ?? {}).length) put(["objective", "tolerances"], undefined);
    }, { placeholder: "always passes" }), "", `objective.tolerances.${level}`));
  document.getElementById("levels").replaceChildren(element("div", { class: "fields" }, ...fields));
}

/** Names that targets and groups of this config have; targets without a name have one of their type. */
function names() {
  const found = Object.keys(config.data?.groups ?? {});
  for (const target of config.targets ?? []) for (const one of [target.group, target.name]) if (one) found.push(one);
  return [...new Set([...found, ...(config.objective?.pareto ?? [])])];
}

function drawPareto() {
  const root = document.getElementById("pareto");
  const all = names();
  if (!all.length) { root.replaceChildren(element("p", { class: "quiet" }, "Groups of data and properties with a name can be chosen here.")); return; }
  root.replaceChildren(element("div", { class: "row" }, ...all.map((name, k) => {
    const input = element("input", { type: "checkbox", id: `pareto-${k}` });
    input.checked = config.objective?.pareto?.includes(name) ?? false;
    input.addEventListener("change", () => {
      const now = new Set(config.objective?.pareto ?? []);
      if (input.checked) now.add(name); else now.delete(name);
      set("pareto", now.size ? [...now] : undefined);
    });
    return element("span", { class: "row" }, input, element("label", { for: input.id }, name));
  })));
}

drawLevels();
drawPareto();
drawKind();
