// Energies of two and of three atoms, drawn anew while parameters move: one request at a time.
import { ask, element } from "/static/studio.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const COLOURS = ["#1f77b4", "#d9730d", "#2ca02c", "#c93636", "#8a63c9", "#8c564b", "#d264b6", "#7f7f7f"];

/** Two plots in `root`; the answer is a function that asks for the curves of (form, what). */
export function curvePlots(root) {
  const pair = element("div", { class: "plot", role: "img", "aria-label": "Energy of two atoms over their distance" });
  const angle = element("div", { class: "plot", role: "img", "aria-label": "What three atoms have beyond their pairs, over the angle" });
  const words = element("p", { class: "quiet", role: "status" });
  root.replaceChildren(pair, angle, words);
  let next = null, busy = false, timer = 0;

  async function work() {
    if (busy || !next) return;
    busy = true;
    const [form, asked] = next;
    next = null;
    try {
      const told = await ask(`/forms/${form}/curve`, "POST", asked);
      draw(pair, told.pairs, "distance, Å", "energy of two atoms, eV", true);
      draw(angle, told.angles, "angle, degrees", "beyond the pairs, eV", false);
      words.textContent = told.words || (told.angles.length ? "" : "This form has no angles for these species: pairs alone.");
    } catch (problem) { words.textContent = problem.message; }
    busy = false;
    if (next) work();
  }
  const again = (form, asked) => { next = [form, asked]; clearTimeout(timer); timer = setTimeout(work, 120); };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", work);
  return again;
}

function draw(root, curves, x, y, clipped) {
  if (!window.Plotly) { window.addEventListener("load", () => draw(root, curves, x, y, clipped), { once: true }); return; }
  const traces = curves.map((one, k) => ({
    x: one.x, y: one.energy, name: one.name, mode: "lines", line: { width: 2, color: COLOURS[k % COLOURS.length], dash: k >= COLOURS.length ? "dot" : "solid" },
  }));
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--quiet"), linecolor: css("--line"), automargin: true };
  const layout = {
    margin: { l: 52, r: 8, t: 8, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: css("--ink"), size: 12 }, showlegend: traces.length > 0, legend: { orientation: "h", y: 1.12, x: 1, xanchor: "right" },
    xaxis: { ...axis, title: { text: x } }, yaxis: { ...axis, title: { text: y }, ...(clipped ? range(curves) : {}) },
  };
  window.Plotly.react(root, traces, layout, { displayModeBar: false, responsive: true });
}

/** So that wells are seen: what is very near rises without end, or falls. */
function range(curves) {
  let low = 0;
  for (const { energy } of curves) {
    for (let k = 1; k < energy.length - 1; k++) {
      const here = energy[k];
      if (here != null && energy[k - 1] != null && energy[k + 1] != null && here <= energy[k - 1] && here <= energy[k + 1]) low = Math.min(low, here);
    }
  }
  return low < -1e-9 ? { range: [1.25 * low, -1.1 * low] } : { range: [-0.2, 2] };
}
