// The page of a published potential: its input of LAMMPS is copied, its publisher withdraws it.
import { ask, attempt, note } from "/static/studio.js";

const name = document.getElementById("potential").dataset.name;

document.getElementById("copy").addEventListener("click", () => attempt(async () => {
  const text = document.getElementById("snippet-text");
  try { await navigator.clipboard.writeText(text.textContent); } catch {
    getSelection().selectAllChildren(text); // without https there is no clipboard
    document.execCommand("copy");
  }
  note("Copied.");
}));

document.getElementById("withdraw")?.addEventListener("click", () => {
  if (confirm(`Take ${name} out of the library? Those who have it keep it.`)) attempt(async () => {
    await ask(`/library/${encodeURIComponent(name)}`, "DELETE");
    location.assign("/library");
  });
});
