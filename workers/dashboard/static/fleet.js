// Refreshes the fleet page. The server's part is parsed as a document of its own: nothing in it can run.
"use strict";

const part = document.getElementById("fleet");
const stale = document.getElementById("stale");
let last = new Date();

function say(words) {
  stale.textContent = words;
  stale.hidden = words === "";
  part.classList.toggle("old", words !== "");
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(part.dataset.src, { credentials: "same-origin", redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 401) {
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    part.replaceChildren(...Array.from(found.body.childNodes, (node) => document.importNode(node, true)));
    last = new Date();
    say("");
  } catch (error) {
    say(`No answer. This is how it stood at ${last.toLocaleTimeString()}.`);
  }
}

setInterval(refresh, Number(part.dataset.refresh));
document.addEventListener("visibilitychange", refresh);
