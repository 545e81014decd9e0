// What a fit will cost, measured on the server.
import { ask, duration, element } from "/static/studio.js";
import { flush, id } from "/static/wizard.js";

const small = (seconds) => (seconds >= 1 ? `${seconds.toPrecision(3)} s` : `${(seconds * 1000).toPrecision(3)} ms`);

export function measuring() {
  const button = document.getElementById("measure");
  const box = document.getElementById("cost");
  button?.addEventListener("click", async () => {
    button.disabled = true;
    box.replaceChildren("Measuring …");
    try {
      await flush();
      show(box, await ask(`/tasks/${id}/cost`, "POST"));
    } catch (problem) { box.replaceChildren(element("p", { class: "error" }, problem.message)); }
    button.disabled = false;
  });
}

function show(box, told) {
  if (told.seconds === null) { box.replaceChildren(element("p", { class: "error" }, told.words || "nothing could be measured")); return; }
  const parts = [
    element("p", {}, element("strong", {}, `about ${duration(told.whole)}`), ` for ${told.budget} evaluations with ${told.workers} ${told.workers === 1 ? "worker" : "workers"}`),
    element("p", { class: "quiet" }, `${small(told.seconds)} for one evaluation, measured on ${told.evaluations}; ${small(told.startup)} to begin; ${told.targets} numbers compared.`),
  ];
  if (told.failed) {
    const why = Object.entries(told.failures).map(([text, count]) => element("li", {}, `${count} × ${text}`));
    parts.push(element("p", {}, `${told.failed} of ${told.evaluations} candidates failed, which costs no more than time:`), element("ul", {}, ...why));
  }
  box.replaceChildren(...parts);
}
