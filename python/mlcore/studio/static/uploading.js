// Files that are dropped or chosen, sent to the server as one data set.
import { ask } from "/static/studio.js";

/** `done` is called with the upload; `say` and `wrong` with words. */
export function dropping(area, input, { done, say, wrong }) {
  const send = async (files) => {
    if (!files.length) return;
    wrong("");
    say(`Reading ${files.length === 1 ? files[0].name : `${files.length} files`} …`);
    const form = new FormData();
    for (const file of files) form.append("files", file);
    try {
      const upload = await ask("/uploads", "POST", form);
      say("");
      await done(upload);
    } catch (problem) { say(""); wrong(problem.message); }
    input.value = "";
  };
  input.addEventListener("change", () => send([...input.files]));
  area.addEventListener("dragover", (event) => { event.preventDefault(); area.classList.add("over"); });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    send([...event.dataTransfer.files]);
  });
  send([...input.files]);  // chosen while this was still on its way
}
