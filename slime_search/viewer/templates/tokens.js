"use strict";

// Token details: by pointer, or with the arrow keys inside a focused run of tokens.
const tip = document.getElementById("tip");
let held = null;

function describe(token) {
  const run = token.parentElement;
  const index = Array.prototype.indexOf.call(run.children, token);
  const logProb = run.dataset.logProbs && Number(run.dataset.logProbs.split(" ")[index]);
  const lines = [`token ${Number(run.dataset.start) + index}, ${run.classList[1]}, ${run.dataset.trained}`];
  if (run.dataset.ids) lines.push(`id ${run.dataset.ids.split(" ")[index]}`);
  if (run.dataset.advantage) lines.push(`advantage ${run.dataset.advantage}`);
  if (logProb !== undefined) {
    lines.unshift(`p ${(100 * Math.min(Math.exp(logProb), 1)).toPrecision(3)}%, log p ${logProb}`);
  }
  return [JSON.stringify(token.textContent.slice(0, 60)), ...lines];
}

function show(token) {
  held?.classList.remove("held");
  held = token;
  tip.hidden = !token;
  if (!token) return;
  token.classList.add("held");
  tip.replaceChildren(...describe(token).map((line) => Object.assign(document.createElement("span"), { textContent: line })));
  const place = token.getClientRects()[0];
  const above = place.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, Math.min(place.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${above > 0 ? above : place.bottom + 6}px`;
}

const tokenAt = (target) => target.closest(".tokens[data-start] > i");

function pointAt(event) {
  const token = tokenAt(event.target);
  if (token !== held) show(token);
}

// Not pointerover: it also fires when the page scrolls under a pointer at rest, and would disturb the arrow keys.
document.addEventListener("pointermove", pointAt);
document.addEventListener("click", pointAt);
document.addEventListener("focusout", () => show(null));
// A token that was walked to stays the place of the walk; one under the pointer has gone from there.
document.addEventListener("scroll", () => show(held?.parentElement === document.activeElement ? held : null), { passive: true });

function stepToken(run, by) {
  const tokens = run.children;
  const at = held?.parentElement === run ? Array.prototype.indexOf.call(tokens, held) + by : by > 0 ? 0 : tokens.length - 1;
  if (!tokens[at]) return;
  tokens[at].scrollIntoView({ block: "nearest" });
  show(tokens[at]);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const run = document.activeElement.closest(".tokens[data-start]");
  if (held && event.key === "Escape") show(null);
  else if (run && event.key === "ArrowRight") stepToken(run, 1);
  else if (run && event.key === "ArrowLeft") stepToken(run, -1);
  else return;
  event.preventDefault();
});
