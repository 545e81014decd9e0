// What all pages share: requests, notes to people, numbers and times as they read them.

const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";

// a click before a page's own script listens would be lost, or send a form where it must not go
document.addEventListener("DOMContentLoaded", () => {
  const main = document.getElementById("main");
  main.inert = false;
  main.querySelector("[autofocus]")?.focus();
});

export class Refusal extends Error {
  constructor(status, told) {
    super(typeof told.detail === "string" ? told.detail : `the server answered ${status}`);
    this.status = status;
    this.problems = told.problems ?? [];
  }
}

/** An endpoint's answer; a Refusal with what was wrong where it refuses. */
export async function ask(path, method = "GET", body = undefined) {
  const headers = { "X-CSRF-Token": csrf, Accept: "application/json" };
  const form = body instanceof FormData;
  if (body !== undefined && !form) headers["Content-Type"] = "application/json";
  const answer = await fetch(`/api${path}`, {
    method, headers, body: body === undefined || form ? body : JSON.stringify(body),
  });
  if (answer.status === 401 && location.pathname !== "/login") location.assign("/login");
  if (answer.status === 204) return null;
  const text = await answer.text();
  let told;
  try { told = JSON.parse(text); } catch { told = { detail: text.slice(0, 300) }; }
  if (!answer.ok) throw new Refusal(answer.status, told);
  return told;
}

/** Tell people something in the corner, for a while. */
export function note(text, bad = false) {
  const one = document.createElement("div");
  one.textContent = text;
  if (bad) one.className = "bad";
  document.getElementById("notes").append(one);
  setTimeout(() => one.remove(), bad ? 12000 : 5000);
}

/** Do something; what it is refused with is told. */
export async function attempt(doing) {
  try { return await doing(); } catch (problem) { note(problem.message, true); return undefined; }
}

export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

export function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && typeof value !== "string") made[key] = value;
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...inside);
  return made;
}

// -- theme ---------------------------------------------------------------------------------------
const recoloured = [];
/** Call when the theme has changed, here, in another tab or by the system. Plots of who does so have `data-themed`. */
export function onTheme(doing) { recoloured.push(doing); }

function recolour() {
  for (const doing of recoloured) doing();
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  const lines = {};
  for (const axis of ["xaxis", "yaxis"]) for (const line of ["gridcolor", "linecolor", "zerolinecolor"]) lines[`${axis}.${line}`] = of("--line");
  for (const plot of document.querySelectorAll(".js-plotly-plot:not([data-themed])")) {
    const colours = { "font.color": of("--ink"), "hoverlabel.bgcolor": of("--card"), "hoverlabel.font.color": of("--ink") };
    window.Plotly.relayout(plot, plot.layout?.scene ? colours : { ...colours, ...lines });
  }
}

const tabs = new BroadcastChannel("mlcore-theme");
let theme = document.documentElement.dataset.theme;
tabs.addEventListener("message", ({ data }) => { if (theme !== data) document.documentElement.dataset.theme = data; });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
new MutationObserver(() => {
  if (theme === document.documentElement.dataset.theme) return;
  theme = document.documentElement.dataset.theme;
  tabs.postMessage(theme);
  recolour();
}).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });

document.getElementById("logout")?.addEventListener("click", () => attempt(async () => {
  await ask("/logout", "POST");
  location.assign("/login");
}));
