// A new task of a kind: with data, from which the rest is suggested, or without.
import { ask } from "/static/studio.js";
import { dropping } from "/static/uploading.js";

const root = document.getElementById("new");
const wrong = (text) => { document.getElementById("wrong").textContent = text; };
const say = (text) => { const at = document.getElementById("working"); if (at) at.textContent = text; };

async function make(body, notes = []) {
  const title = document.getElementById("name").value.trim();
  const task = await ask("/tasks", "POST", { kind: root.dataset.kind, ...body, ...(title ? { title } : {}) });
  if (notes.length) sessionStorage.setItem(`notes-${task.id}`, JSON.stringify(notes));
  location.assign(`/drafts/${task.id}/${body.step ?? ""}`);
}

async function withData(id) {
  say("Looking at the structures …");
  try {
    const told = await ask("/suggestions", "POST", { upload: id });
    await make({ config: told.config, title: told.title }, told.notes);
  } catch (problem) { say(""); wrong(problem.message); }
}

/** A kind whose config the data that people came with fill in; what they tell nothing of stays. */
async function filled() {
  const upload = root.dataset.upload;
  if (!upload || document.getElementById("file")) return make({});
  const kind = (await ask("/kinds")).find((one) => one.name === root.dataset.kind);
  const told = await ask(`/kinds/${kind.name}/filled`, "POST", { config: kind.example, upload });
  return make({ config: told.config }, told.notes);
}

if (root) {
  const input = document.getElementById("file");
  if (input) dropping(document.getElementById("drop"), input, { done: (upload) => withData(upload.id), say, wrong });
  root.addEventListener("click", (event) => {
    const set = event.target.closest("button[data-upload]");
    if (set) withData(set.dataset.upload);
  });
  document.getElementById("empty").addEventListener("click", () => filled().catch((problem) => wrong(problem.message)));
  if (input && root.dataset.upload) withData(root.dataset.upload);
}
