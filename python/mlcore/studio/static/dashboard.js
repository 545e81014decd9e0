// Rows of tasks that run are kept fresh; chosen ones are compared.
import { ask, duration } from "/static/studio.js";

const table = document.getElementById("tasks");
// what is not chosen is empty
const asked = new URLSearchParams([...new URLSearchParams(location.search)].filter(([, value]) => value));
const busy = ["queued", "running", "pausing", "cancelling"];

function show(row, task) {
  const badge = row.querySelector(".badge");
  if (badge.textContent !== task.state) { badge.textContent = task.state; badge.className = `badge ${task.state}`; }
  row.querySelector("progress").value = task.progress;
  row.querySelector(".line").textContent = task.error || task.line;
  row.querySelector(".time").textContent = duration(task.seconds);
}

async function refresh() {
  const rows = [...table.querySelectorAll("tr[data-task]")];
  if (!document.hidden && rows.some((row) => busy.includes(row.querySelector(".badge").textContent))) {
    try {
      const found = await ask(`/tasks?${asked}`);
      const known = new Map(found.tasks.map((task) => [task.id, task]));
      for (const row of rows) if (known.has(row.dataset.task)) show(row, known.get(row.dataset.task));
    } catch { /* the server is away; the next look may find it */ }
  }
  setTimeout(refresh, 1000);
}

if (table) {
  const compare = document.getElementById("compare");
  const chosen = () => [...table.querySelectorAll('input[name="task"]:checked')].map((box) => box.value);
  table.addEventListener("change", () => { compare.disabled = chosen().length < 2; });
  compare.addEventListener("click", () => location.assign(`/compare?${chosen().map((id) => `task=${id}`).join("&")}`));
  refresh();
}
