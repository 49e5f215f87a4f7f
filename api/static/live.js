// Keeps #live up to date while something runs, and sends the form without leaving the page.
const REFRESH_MS = 1500;

async function refresh() {
  const live = document.getElementById("live");
  if (!live || live.dataset.running !== "yes") return;
  const inUse = live.contains(document.activeElement) || document.querySelector("dialog[open]");
  if (!document.hidden && !inUse) {
    try {
      const answer = await fetch(location.href);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById("live");
      if (answer.ok && next) live.replaceWith(next);
    } catch { /* the server is away; the next turn tries again */ }
  }
  setTimeout(refresh, REFRESH_MS);
}

async function submit(event) {
  event.preventDefault();
  const form = event.target, said = form.querySelector("output"), body = new FormData();
  for (const file of form.elements.images.files) body.append("images", file);
  said.textContent = "Sending…";
  try {
    const headers = { "X-CSRF-Token": document.querySelector("meta[name=csrf]").content };
    const lane = document.getElementById("urgent").checked ? "urgent" : "routine";
    const answer = await fetch(`${form.action}?lane=${lane}`, { method: "POST", body, headers });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.detail);
    location.href = `/batches/${told.id}`;
  } catch (error) {
    said.textContent = `Not accepted: ${error.message}`;
  }
}

document.querySelector("form.submit")?.addEventListener("submit", submit);
setTimeout(refresh, REFRESH_MS);
