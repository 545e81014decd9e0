// One's theme, password and tokens; users, for administrators.
import { ask, attempt, note } from "/static/studio.js";

const find = (id) => document.getElementById(id);

function handled(id, doing) {
  find(id)?.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(() => doing(event.target));
  });
}

find("theme")?.addEventListener("change", (event) => attempt(async () => {
  const me = await ask("/me", "PATCH", { theme: event.target.value });
  document.documentElement.dataset.theme = me.theme;
}));

handled("make", async (form) => {
  const made = await ask("/tokens", "POST", { title: find("title").value });
  find("words").textContent = made.token;
  find("made").hidden = false;
  form.reset();
});

handled("password", async (form) => {
  await ask("/me", "PATCH", { old_password: find("old").value, new_password: find("new").value });
  form.reset();
  note("The password is changed; other browsers of yours are logged out.");
});

handled("add", async () => {
  await ask("/users", "POST", { name: find("name").value, password: find("word").value, admin: find("admin").checked });
  location.reload();
});

document.addEventListener("click", (event) => {
  const { drop, remove, name } = event.target.dataset ?? {};
  if (drop) attempt(async () => { await ask(`/tokens/${drop}`, "DELETE"); location.reload(); });
  if (remove && confirm(`Remove ${name}, with all tasks and data?`)) {
    attempt(async () => { await ask(`/users/${remove}`, "DELETE"); location.reload(); });
  }
});
