"use strict";
const byId = (id) => document.getElementById(id);
const [about, drop, file, query, hint, state, hits] = ["about", "drop", "file", "query", "hint", "state", "hits"].map(byId);

const say = (words) => { state.textContent = words; };

function shown(hit) {
  const item = document.createElement("li");
  const figure = item.appendChild(document.createElement("figure"));
  const picture = figure.appendChild(document.createElement("img"));
  picture.src = `/thumbnail/${hit.row}`;
  picture.alt = hit.label || hit.path;
  const caption = figure.appendChild(document.createElement("figcaption"));
  const similarity = caption.appendChild(document.createElement("b"));
  similarity.textContent = hit.similarity.toFixed(3);
  caption.append(document.createElement("br"), [hit.label, hit.path].filter(Boolean).join(" - "));
  if (hit.same_picture) caption.append(" (the picture itself)");
  return item;
}

let latest = 0;

async function search(blob) {
  const mine = ++latest;
  URL.revokeObjectURL(query.src);
  query.src = URL.createObjectURL(blob);
  query.hidden = false;
  hint.textContent = "Drop another picture, paste one, or choose a file";
  say("Searching ...");
  hits.replaceChildren();
  try {
    const answer = await fetch("/search?top=24", { method: "POST", body: blob });
    const found = await answer.json();
    if (mine !== latest) return;
    if (!answer.ok) throw new Error(found.error);
    say(`${found.hits.length} nearest in ${found.milliseconds.toFixed(0)} ms`);
    hits.replaceChildren(...found.hits.map(shown));
  } catch (error) {
    if (mine === latest) say(error.message || "The server does not answer: is it still running?");
  }
}

file.addEventListener("change", () => { if (file.files.length) search(file.files[0]); });
drop.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") file.click(); });
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) search(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) search(event.clipboardData.files[0]);
});
fetch("/info").then((answer) => answer.json()).then((info) => {
  about.textContent = `${info.images.toLocaleString()} images of ${info.data}`;
});
