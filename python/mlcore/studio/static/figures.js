// Figures and tables as mlcore.studio.figures tells them, drawn in cards of fixed size in the colours of the theme.
import { element, onTheme } from "/static/studio.js";

const SERIES = 8;
const tones = ["ink", "quiet", "accent", "other", "good", "bad"];
const drawn = new Map(); // plot element -> told figure, to be drawn again when the theme changes
const latest = new WeakMap(); // plot element -> told figure, drawn or not yet

/** The colours of this moment. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  const colours = { ground: of("card"), line: of("line"), text: of("ink"), soft: of("quiet"), series: [] };
  for (const tone of tones) colours[tone] = of(`figure-${tone}`) || of(tone);
  for (let k = 1; k <= SERIES; k++) colours.series.push(of(`figure-${k}`));
  return colours;
}

function traces(told, colours) {
  return told.data.map((trace) => {
    const colour = colours[trace.meta?.tone];
    const made = { ...trace };
    if (trace.type === "bar") made.marker = { ...trace.marker, ...(colour && { color: colour }) };
    else if (colour) {
      if (trace.marker || trace.mode?.includes("markers")) made.marker = { ...trace.marker, color: colour };
      if (trace.mode?.includes("lines")) made.line = { ...trace.line, color: colour };
    }
    if (trace.text && !trace.hovertemplate) made.hovertemplate = "%{text}<br>%{x}, %{y}<extra></extra>";
    return made;
  });
}

/** Ticks of a logarithmic axis at 1, 2, 5 where all digits would stand on each other. */
function ticks(data, told) {
  if (told?.type !== "log") return {};
  const known = data.flatMap((trace) => Array.from(trace.y ?? [])).filter((value) => value > 0);
  const span = Math.log10(known.reduce((a, b) => Math.max(a, b), 0) / known.reduce((a, b) => Math.min(a, b), Infinity));
  return span > 0.7 && span < 2.5 ? { dtick: "D2" } : {};
}

function axis(told, colours) {
  return {
    gridcolor: colours.line, zerolinecolor: colours.line, linecolor: colours.line, automargin: true, nticks: 8,
    exponentformat: "e", ...told,
    title: { standoff: 8, ...told?.title, font: { size: 12, color: colours.soft } },
  };
}

function layout(told, colours) {
  const named = told.data.filter((trace) => trace.name && trace.showlegend !== false).length;
  const { xaxis, yaxis, ...rest } = told.layout;
  return {
    paper_bgcolor: colours.ground, plot_bgcolor: colours.ground, colorway: colours.series,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colours.text }, hoverlabel: { font: { size: 12 } },
    margin: { l: 56, r: 12, t: 8, b: 42 }, autosize: true, bargap: 0.25, barmode: "group",
    showlegend: named > 1, hovermode: "closest",
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 11 }, bgcolor: "rgba(0,0,0,0)" },
    // what people zoomed to stays theirs while data come in
    uirevision: told.name, ...rest,
    xaxis: axis(xaxis, colours), yaxis: { ...axis(yaxis, colours), ...ticks(told.data, yaxis) },
    ...(rest.scene && { scene: { ...rest.scene, uirevision: told.name } }),
  };
}

const config = {
  responsive: true, displaylogo: false, doubleClickDelay: 400,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "toggleSpikelines"],
};

function draw(plot, told) {
  const colours = palette();
  drawn.set(plot, told);
  return Plotly.react(plot, traces(told, colours), layout(told, colours), config);
}

function again() {
  for (const [plot, told] of drawn) plot.isConnected ? draw(plot, told) : drawn.delete(plot);
}
onTheme(again);

/** A link that keeps text as a file. */
function keep(text, name, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const cell = (value) => {
  const text = value == null ? "" : String(value);
  // a cell that begins like a formula is not one
  const safe = typeof value === "string" && /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
const csv = (rows) => rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";

/** The numbers of a figure: series, x, y, a row for each point. */
export function numbers(told) {
  const x = told.layout.xaxis?.title?.text || "x", y = told.layout.yaxis?.title?.text || "y";
  const rows = [["series", x, y]];
  for (const [k, trace] of told.data.entries()) {
    const count = Math.max(trace.x?.length ?? 0, trace.y?.length ?? 0);
    for (let n = 0; n < count; n++) {
      rows.push([trace.name || (trace.text ? trace.text[n] : `series ${k + 1}`), trace.x?.[n], trace.y?.[n]]);
    }
  }
  return csv(rows);
}

function sectioned(root, name) {
  const id = `section-${(name || "figures").toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
  let section = document.getElementById(id);
  if (!section) {
    section = element("section", { id, class: "shown" },
      element("h2", {}, name || "Figures"),
      element("div", { class: "figures" }), element("div", { class: "tables" }));
    root.append(section);
  }
  return section;
}

/** See to it that sections stand in this order, where they are not there yet. */
export function sections(root, names) { for (const name of names) sectioned(root, name); }

function card(root, told) {
  const id = `figure-${told.name}`;
  let made = document.getElementById(id);
  if (made) return made;
  const data = element("button", { type: "button", class: "small", title: "Its numbers, as CSV" }, "Data");
  made = element("figure", { id, class: told.wide ? "figure wide" : "figure" },
    element("figcaption", {}, element("span", { id: `${id}-title` }, told.title), data),
    element("div", { class: "plot", "data-themed": "", role: "group", "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-text` }),
    element("p", { class: "hidden", id: `${id}-text` }));
  data.setAttribute("aria-label", `Numbers of ${told.title}, as CSV`);
  const plot = made.querySelector(".plot");
  data.addEventListener("click", () => keep(numbers(latest.get(plot)), `${told.name}.csv`, "text/csv"));
  sectioned(root, told.section).querySelector(".figures").append(made);
  watch.observe(plot);
  return made;
}

const signatures = new WeakMap();
const waiting = new Map(); // plot element -> told figure, drawn when people come to see it
const seen = new WeakSet();

const watch = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) seen.add(target); else seen.delete(target);
    if (isIntersecting && waiting.has(target)) { draw(target, waiting.get(target)); waiting.delete(target); }
  }
}, { rootMargin: "200px" });

/** Draw figures into sections of `root`: those that are seen and have changed, the others when they come into view. */
export async function figures(root, list) {
  if (!window.Plotly) await new Promise((ready) => addEventListener("load", ready, { once: true }));
  const names = new Set(list.map((told) => `figure-${told.name}`));
  for (const old of root.querySelectorAll("figure.figure")) {
    if (!names.has(old.id)) {
      const plot = old.querySelector(".plot");
      watch.unobserve(plot);
      waiting.delete(plot);
      drawn.delete(plot);
      Plotly.purge(plot);
      old.remove();
    }
  }
  const later = [];
  for (const told of list) card(root, told);
  for (const told of list) {
    const made = card(root, told);
    const signature = JSON.stringify(told);
    if (signatures.get(made) === signature) continue;
    signatures.set(made, signature);
    made.querySelector("figcaption span").textContent = told.title;
    made.querySelector("p.hidden").textContent = told.text ?? "";
    const plot = made.querySelector(".plot");
    latest.set(plot, told);
    if (seen.has(plot)) { await draw(plot, told); waiting.delete(plot); } else waiting.set(plot, told);
    if (!drawn.has(plot)) later.push(plot);
  }
  // each is there once, also where nobody has come to see it
  for (const plot of later) {
    await new Promise((ready) => requestIdleCallback(ready, { timeout: 200 }));
    const told = waiting.get(plot);
    waiting.delete(plot);
    if (told && plot.isConnected) await draw(plot, told);
  }
}

/** A number as people read it; the whole of it is in its title. */
export function shown(value) {
  if (typeof value !== "number") return value ?? "";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  const size = Math.abs(value);
  return size >= 1e6 || size < 1e-4 ? value.toExponential(3) : String(Number(value.toPrecision(6)));
}

/** Whether a column holds numbers, most of it; places where nothing is known count for neither. */
function counted(rows, n) {
  const told = rows.map((row) => row[n]).filter((value) => value != null && value !== "");
  return told.filter((value) => typeof value === "number").length * 2 >= Math.max(1, told.length) || (rows.length > 0 && !told.length);
}

function body(rows, marks, right) {
  return rows.map((row, k) => {
    const made = element("tr", marks?.includes(k) ? { class: "marked" } : {});
    row.forEach((value, n) => made.append(element(n ? "td" : "th", {
      ...(n ? {} : { scope: "row" }), ...(n && right[n] ? { class: "number" } : {}),
      ...(typeof value === "string" && value.length > 30 ? { title: value } : {}),
    }, shown(value))));
    return made;
  });
}

/** Tables into sections of `root`. */
export function tables(root, list) {
  const names = new Set(list.map((told) => `table-${told.name}`));
  for (const old of root.querySelectorAll(".told-table")) if (!names.has(old.id)) old.remove();
  for (const told of list) {
    const id = `table-${told.name}`;
    let made = document.getElementById(id);
    if (!made) {
      const data = element("button", { type: "button", class: "small", "aria-label": `${told.title}, as CSV` }, "Data");
      made = element("div", { id, class: "told-table card" },
        element("div", { class: "caption" }, element("h3", { id: `${id}-title` }, told.title), data),
        element("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": `${id}-title` },
          element("table", { "aria-labelledby": `${id}-title` }, element("thead"), element("tbody"))),
        element("p", { class: "quiet" }));
      data.addEventListener("click", () => keep(made.csv, `${told.name}.csv`, "text/csv"));
      sectioned(root, told.section).querySelector(".tables").append(made);
    }
    const signature = JSON.stringify(told);
    if (signatures.get(made) === signature) continue;
    signatures.set(made, signature);
    made.classList.toggle("many", told.columns.length > 4);
    made.csv = csv([told.columns, ...told.rows]);
    const right = told.columns.map((_, n) => n > 0 && counted(told.rows, n));
    made.querySelector("thead").replaceChildren(element("tr", {}, ...told.columns.map((name, n) => element("th", {
      scope: "col", class: right[n] ? "number" : "",
    }, name || element("span", { class: "hidden" }, "note")))));
    made.querySelector("tbody").replaceChildren(...body(told.rows, told.marked, right));
    const rest = (told.count ?? told.rows.length) - told.rows.length;
    made.querySelector("p").textContent = rest > 0 ? `and ${rest} more` : "";
  }
}
