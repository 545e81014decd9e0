// Structures, trajectories and grids in three dimensions, drawn by Plotly, with buttons and a slider.
import { element, onTheme } from "/static/studio.js";

const SYMBOLS = ("X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y " +
  "Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl " +
  "Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt").split(" ");
// of Jmol, six letters for each number from 0 on
const COLOURS = "ff0000ffffffd9ffffcc80ffc2ff00ffb5b59090903050f8ff0d0d90e050b3e3f5ab5cf28aff00bfa6a6f0c8a0ff8000ffff301ff01f80d1e38f40d43dff00e6e6e6bfc2c7a6a6ab8a99c79c7ac7e06633f090a050d050c880337d80b0c28f8f668f8fbd80e3ffa100a629295cb8d1702eb000ff0094ffff94e0e073c2c954b5b53b9e9e248f8f0a7d8c006985c0c0c0ffd98fa675736680809e63b5d47a00940094429eb057178f00c90070d4ffffffc7d9ffc7c7ffc7a3ffc78fffc761ffc745ffc730ffc71fffc700ff9c00e67500d45200bf3800ab244dc2ff4da6ff2194d6267dab266696175487d0d0e0ffd123b8b8d0a6544d5759619e4fb5ab5c00754f45428296420066007d0070abfa00baff00a1ff008fff0080ff006bff545cf2785ce38a4fe3a136d4b31fd4b31fbab30da6bd0d87c70066cc0059d1004fd90045e00038e6002eeb0026";
const BEADS = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#eeca3b", "#9d755d"];
const KEPT = 64; // frames that are remembered
const NEAR = 1.45; // how large the longest side of a scene is
const BALL = 0.18; // of a bond is inside its atoms

/** Colours and fonts of the page for Plotly, as its theme has them now. */
export function theme() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: of("--line"), linecolor: of("--line"), zerolinecolor: of("--line"), automargin: true };
  return {
    ink: of("--ink"), quiet: of("--quiet"), line: of("--line"), accent: of("--accent"), card: of("--card"),
    layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: of("--ink"), size: 12 },
      xaxis: axis, yaxis: axis, hoverlabel: { bgcolor: of("--card"), font: { color: of("--ink") } },
    },
  };
}

export const symbol = (number) => (number ? SYMBOLS[number] ?? `Z${number}` : "particle");

/** Colour of an element; of beads (number 0) by how many others there are. */
export function colour(number, others = 0) {
  return number > 0 && number * 6 < COLOURS.length ? `#${COLOURS.slice(number * 6, number * 6 + 6)}` : BEADS[others % BEADS.length];
}

const sum = (a, b, f = 1) => a.map((value, k) => value + f * b[k]);
const shifted = (place, cell, by) => cell.reduce((at, edge, k) => sum(at, edge, by[k]), place);

/** One trace of line segments [from, to]. */
function segments(pairs, color, width, name) {
  const along = (k) => pairs.flatMap(([from, to]) => [from[k], to[k], null]);
  return {
    type: "scatter3d", mode: "lines", name, hoverinfo: "skip", showlegend: false,
    x: along(0), y: along(1), z: along(2), line: { color, width },
  };
}

function edges(cell) {
  const pairs = [];
  for (let axis = 0; axis < 3; axis += 1) {
    const [b, c] = [cell[(axis + 1) % 3], cell[(axis + 2) % 3]];
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const from = sum(sum([0, 0, 0], b, i), c, j);
      pairs.push([from, sum(from, cell[axis])]);
    }
  }
  return pairs;
}

const filled = (cell) => cell && cell.some((edge) => edge.some((value) => value !== 0));

function bondsOf(frame, color) {
  const at = frame.positions;
  const part = (from, to, begin, end) => [begin, end].map((f) => sum(from, sum(to, from, -1), f));
  const pairs = (frame.bonds ?? []).map(([i, j]) => part(at[i], at[j], BALL, 1 - BALL));
  for (const [i, j, ...by] of frame.across ?? []) {
    // half of a bond to an image, from either end
    const far = shifted(at[j], frame.cell, by);
    const near = shifted(at[i], frame.cell, by.map((value) => -value));
    pairs.push(part(at[i], far, BALL, 0.5), part(at[j], near, BALL, 0.5));
  }
  return pairs.length ? [segments(pairs, color, 5, "bonds")] : [];
}

function markers(of, frame, name, marker, showlegend) {
  const at = (k) => of.map((i) => frame.positions[i][k]);
  return {
    type: "scatter3d", mode: "markers", name, x: at(0), y: at(1), z: at(2), marker, showlegend,
    text: of.map((i) => `${name} ${i}`), hovertemplate: "%{text}<br>%{x:.3f}, %{y:.3f}, %{z:.3f}<extra></extra>",
  };
}

function atoms(frame, look) {
  const size = Math.max(3, Math.min(18, 40 / Math.cbrt(frame.positions.length)));
  const every = frame.positions.map((_, i) => i);
  const line = { color: look.line, width: 1 };
  if (frame.colours) {
    const marker = { size, color: frame.colours, colorscale: "Viridis", showscale: true, colorbar: { thickness: 10, len: 0.7 }, line };
    return [markers(every, frame, "atom", marker, false)];
  }
  const names = new Map();
  for (const i of every) {
    const name = frame.symbols?.[i] ?? symbol(frame.numbers[i]);
    if (!names.has(name)) names.set(name, []);
    names.get(name).push(i);
  }
  return [...names].map(([name, of], others) => {
    const number = frame.numbers[of[0]];
    return markers(of, frame, name, { size: number === 1 ? 0.6 * size : size, color: colour(number, others), opacity: 1, line }, true);
  });
}

/** Colours of values; of the states of an automaton the same in all frames. */
function scale(grid, look) {
  if (grid.most === 1) return { color: look.accent };
  const states = grid.most > 1 && Number.isInteger(grid.most);
  const bar = { thickness: 10, len: 0.7, ...(states && grid.most < 12 ? { dtick: 1, tickformat: "d" } : {}) };
  return { colorscale: "Viridis", showscale: true, colorbar: bar, ...(states ? { cmin: 0, cmax: grid.most } : {}) };
}

function cells(grid, look) {
  const [, ny, nz] = grid.shape;
  const box = grid.shape.map((n, k) => grid.shape.map((_, l) => (k === l ? n : 0)));
  const outline = edges(box).map((pair) => pair.map((corner) => sum(corner, [1, 1, 1], -0.5)));
  const of = grid.values.map((value, i) => [value, i]).filter(([value]) => value !== 0).map(([, i]) => i);
  const size = Math.max(2, Math.min(12, 110 / Math.max(...grid.shape)));
  return [segments(outline, look.quiet, 2, "box"), {
    type: "scatter3d", mode: "markers", name: "cells", showlegend: false, hovertemplate: "%{x}, %{y}, %{z}: %{marker.color}<extra></extra>",
    x: of.map((i) => Math.floor(i / (ny * nz))), y: of.map((i) => Math.floor(i / nz) % ny), z: of.map((i) => i % nz),
    marker: { symbol: "square", size, color: of.map((i) => grid.values[i]), ...scale(grid, look) },
  }];
}

function plane(grid) {
  const [nx, ny] = grid.shape;
  const rows = Array.from({ length: nx }, (_, i) => grid.values.slice(i * ny, (i + 1) * ny));
  return [{ type: "heatmap", z: rows, colorscale: "Viridis", colorbar: { thickness: 10 } }];
}

function traces(frame, look) {
  if (frame.grid) return frame.grid.shape.length === 2 ? plane(frame.grid) : cells(frame.grid, look);
  const box = filled(frame.cell) ? [segments(edges(frame.cell), look.quiet, 2, "cell")] : [];
  return [...box, ...bondsOf(frame, look.quiet), ...atoms(frame, look)];
}

/** Ranges that hold what was drawn so far, so that nothing jumps from frame to frame. */
function grown(ranges, frame) {
  const ends = frame.extent ? [0, 1].map((end) => frame.extent.map((range) => range[end])) : [];
  const corners = frame.grid ? [[-1, -1, -1], frame.grid.shape]
    : [...frame.positions, ...ends, ...(filled(frame.cell) ? edges(frame.cell).flat() : [])];
  // of what is in reduced units a part of its size, of atoms a bit more than they are large
  const room = frame.extent ? 0.08 * Math.max(...frame.extent.map(([low, high]) => high - low), 1e-9) : 0.6;
  return [0, 1, 2].map((k) => {
    let [low, high] = ranges?.[k] ?? [Infinity, -Infinity];
    for (const corner of corners) { low = Math.min(low, corner[k] - room); high = Math.max(high, corner[k] + room); }
    return [low, high];
  });
}

function layoutOf(frame, look, ranges) {
  const bare = { ...look.layout, margin: { l: 0, r: 0, t: 0, b: 0 }, uirevision: "kept", legend: { x: 0, y: 1, itemsizing: "constant" } };
  if (frame.grid?.shape.length === 2) return { ...bare, margin: { l: 36, r: 0, t: 8, b: 28 }, yaxis: { ...look.layout.yaxis, scaleanchor: "x" } };
  const axis = (k) => ({ visible: false, range: ranges[k], autorange: false });
  const camera = { projection: { type: "orthographic" }, eye: { x: 1.0, y: 0.7, z: 0.45 } };
  const spans = ranges.map(([low, high]) => high - low);
  const [x, y, z] = spans.map((span) => (NEAR * span) / Math.max(...spans));
  const aspects = { aspectmode: "manual", aspectratio: { x, y, z } }; // as the lengths are, the longest fills the view
  return { ...bare, scene: { xaxis: axis(0), yaxis: axis(1), zaxis: axis(2), ...aspects, camera, uirevision: "kept" } };
}

/**
 * Show frames in an element: {numbers, positions, cell, pbc, bonds?, across?, symbols?, colours?} or {grid: {shape, values}};
 * an array, or an async function k -> frame with options.count. Options: count, label, rate (frames a second), onframe(k, frame).
 * What it gives back: show(k), redraw(), and k, the frame shown.
 */
export function viewer(place, frames, options = {}) {
  const count = options.count ?? frames.length;
  const of = typeof frames === "function" ? frames : async (k) => frames[k];
  const label = options.label ?? "Structure";
  const known = new Map();
  let [ranges, wanted, timer, now] = [null, 0, 0, null];

  const plot = element("div", { class: "plot", "data-themed": "", role: "img", "aria-label": label });
  const button = (text, name, action) => {
    const made = element("button", { type: "button", "aria-label": name }, text);
    made.addEventListener("click", action);
    return made;
  };
  const slider = element("input", { type: "range", min: "0", max: String(Math.max(count - 1, 0)), value: "0", "aria-label": `${label}: which one` });
  const output = element("output", { class: "quiet" });
  const play = button("▶", "Play", () => (timer ? stop() : begin()));
  const controls = element("div", { class: "controls", role: "group", "aria-label": `Which ${label.toLowerCase()}` },
    play, button("‹", "Previous", () => { stop(); show(wanted - 1); }), slider, button("›", "Next", () => { stop(); show(wanted + 1); }), output);
  controls.hidden = count < 2;
  place.classList.add("viewer");
  place.replaceChildren(plot, controls);
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });

  async function frame(k) {
    if (!known.has(k)) {
      known.set(k, of(k));
      if (known.size > KEPT) known.delete(known.keys().next().value);
    }
    try { return await known.get(k); } catch (problem) { known.delete(k); throw problem; }
  }

  async function draw() {
    const look = theme();
    ranges = grown(ranges, now);
    await Plotly.react(plot, traces(now, look), layoutOf(now, look, ranges), { responsive: true, displaylogo: false, displayModeBar: false });
  }

  async function show(k) {
    wanted = (k + count) % count;
    slider.value = String(wanted);
    output.textContent = `${wanted + 1} of ${count}`;
    const at = wanted;
    const found = await frame(at);
    if (at !== wanted) return; // another was asked for meanwhile
    now = found;
    plot.setAttribute("aria-label", `${label} ${at + 1} of ${count}${found.numbers ? `, ${found.numbers.length} atoms` : ""}`);
    await draw();
    options.onframe?.(at, found);
  }

  function stop() { clearTimeout(timer); timer = 0; play.textContent = "▶"; play.setAttribute("aria-label", "Play"); }

  function begin() {
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause");
    const step = async () => {
      try { await show(wanted + 1); } catch { stop(); }
      if (timer) timer = setTimeout(step, 1000 / (options.rate ?? 8));
    };
    timer = setTimeout(step, 0);
  }

  onTheme(() => { if (now && plot.isConnected) draw(); });
  if (count) show(Math.min(options.first ?? 0, count - 1)).catch((problem) => { output.textContent = problem.message; controls.hidden = false; });
  return { show, redraw: () => now && draw(), get k() { return wanted; } };
}
