// A task while it runs: its state by server-sent events, its figures and log when something changed.
import { ask, attempt } from "/static/studio.js";

const root = document.getElementById("task");
const id = root.dataset.task;
const may = {
  pause: ["queued", "running"], resume: ["paused", "cancelled", "failed"],
  cancel: ["queued", "running", "pausing", "paused"], restart: ["paused", "cancelled", "failed", "done"],
  clone: null, delete: ["draft", "paused", "cancelled", "failed", "done"],
};
let next = 0;

function show(task) {
  const badge = document.getElementById("state");
  badge.textContent = task.state;
  badge.className = `badge ${task.state}`;
  document.getElementById("progress").value = task.progress;
  document.getElementById("line").textContent = task.error || task.line;
  for (const button of root.querySelectorAll("[data-do]")) {
    const states = may[button.dataset.do];
    button.hidden = states !== null && !states.includes(task.state);
  }
}

async function more() {
  const told = await ask(`/tasks/${id}/log?start=${next}`);
  const log = document.getElementById("log");
  const end = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  log.append(told.text);
  next = told.next;
  if (end) log.scrollTop = log.scrollHeight;
}

root.addEventListener("click", (event) => {
  const what = event.target.dataset?.do;
  if (what) attempt(async () => {
    if (what === "delete") {
      if (!confirm("Throw the task and all it made away?")) return;
      await ask(`/tasks/${id}`, "DELETE");
      location.assign("/");
    } else {
      const task = await ask(`/tasks/${id}/${what}`, "POST");
      if (what === "clone") location.assign(`/drafts/${task.id}`);
      else show(task);
    }
  });
});

const stream = new EventSource(`/api/tasks/${id}/live`);
stream.addEventListener("task", (event) => { show(JSON.parse(event.data)); attempt(more); });
