// Asks for the ground truth of one image, and sends it as a label.
const dialog = document.getElementById("truth");

function ask(event) {
  const button = event.target.closest("button[data-image]");
  if (!button) return;
  dialog.dataset.image = button.dataset.image;
  dialog.querySelector(".name").textContent = button.dataset.name;
  dialog.querySelector("select[name=label]").value = "";  // what was found of another image says nothing of this one
  dialog.querySelector("output").textContent = "";
  dialog.showModal();
}

async function keep(event) {
  event.preventDefault();
  const form = event.target, said = form.querySelector("output"), button = form.querySelector("button");
  const label = { image_sha256: dialog.dataset.image, ...Object.fromEntries(new FormData(form)) };
  button.disabled = true;
  try {
    const headers = {
      "Content-Type": "application/json",
      "X-CSRF-Token": document.querySelector("meta[name=csrf]").content,
    };
    const answer = await fetch(form.action, { method: "POST", body: JSON.stringify({ labels: [label] }), headers });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.rows?.[0]?.detail ?? told.detail);
    location.reload();
  } catch (error) {
    said.textContent = `Not kept: ${error.message}`;
    button.disabled = false;
  }
}

if (dialog) {
  document.addEventListener("click", ask);
  dialog.querySelector("[value=cancel]").addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", keep);
}
