// Questions: j and k walk through those that the filter shows.
let current = null;

function stepQuestion(by) {
  const shown = [...document.querySelectorAll(".question")].filter((question) => question.offsetParent);
  const at = shown.indexOf(current);
  const next = shown[at < 0 ? 0 : at + by];
  if (next) visit(next);
}

function visit(question) {
  current = question;
  question.scrollIntoView({ block: "start" });
  question.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j") stepQuestion(1);
  else if (event.key === "k") stepQuestion(-1);
  else return;
  event.preventDefault();
});

document.querySelector(".scores")?.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  document.getElementById("show-all").checked = true;
  visit(document.getElementById(link.hash.slice(1)));
});
