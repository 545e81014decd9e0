// Tasks side by side; looked at again while one of them runs.
import { ask, element, note } from "/static/studio.js";
import { figures, sections, tables } from "/static/figures.js";

const rows = [...document.querySelectorAll("#compared [data-task]")];
const place = document.getElementById("shown");
const PAUSE = 2000; // ms
const AWAY = /fetch|network/i; // the server may come back
const ORDER = ["Facts", "Convergence", "Quality of the fits", "Parameters"];

async function look() {
  const found = await ask(`/compare?${rows.map((row) => `task=${row.dataset.task}`).join("&")}`);
  document.getElementById("waiting")?.remove();
  const told = new Set([...found.tables, ...found.figures].map((one) => one.section));
  sections(place, ORDER.filter((name) => told.has(name)));
  await figures(place, found.figures);
  tables(place, found.tables);
  for (const task of found.tasks) {
    const row = rows.find((one) => one.dataset.task === task.id);
    const badge = row.querySelector(".badge");
    badge.textContent = task.state;
    badge.className = `badge ${task.state}`;
    row.querySelector(".line").textContent = task.error || task.line;
  }
  const made = [...place.querySelectorAll(":scope > section")];
  document.getElementById("toc").replaceChildren(...made.map((one) =>
    element("a", { href: `#${one.id}` }, one.querySelector("h2").textContent)));
  return found.tasks.some((task) => ["queued", "running", "pausing", "cancelling"].includes(task.state));
}

async function follow() {
  let more = true;
  while (more) {
    try { more = document.hidden || await look(); } catch (problem) {
      if (problem.status) { note(problem.message, true); return; }
      if (!AWAY.test(problem.message)) throw problem;
    }
    await new Promise((ready) => setTimeout(ready, PAUSE));
  }
}
if (rows.length) follow();
