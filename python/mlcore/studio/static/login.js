import { ask } from "/static/studio.js";

document.getElementById("login")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  try {
    await ask("/login", "POST", { name: form.get("name"), password: form.get("password") });
    location.assign("/");
  } catch (problem) {
    document.getElementById("refusal").textContent = problem.message;
  }
});
