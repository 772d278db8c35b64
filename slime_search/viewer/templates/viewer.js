
// Walking: j and k step through what the page says (data-walk), the arrows through pages and rollouts.
const search = document.getElementById("search");
const help = document.getElementById("help");
const follow = (rel) => document.querySelector(`main a[rel=${rel}]`)?.click();
const isList = document.querySelector(".list .open") !== null;

function walk(by) {
  const stops = [...document.querySelectorAll(document.body.dataset.walk)].filter((stop) => stop.checkVisibility());
  const at = stops.indexOf(document.activeElement);
  const next = stops[at < 0 ? (by > 0 ? 0 : stops.length - 1) : at + by];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: isList ? "nearest" : "center" });
}

const keys = {
  j: () => walk(1),
  k: () => walk(-1),
  "?": () => help.showModal(),
  "/": () => (search ? search.select() : follow("up")),
  ArrowRight: () => follow("next"),
  ArrowLeft: () => follow("prev"),
  Escape: () => follow("up"),
};
if (isList) Object.assign(keys, { ArrowDown: keys.j, ArrowUp: keys.k });

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const field = document.activeElement.matches("input, select, textarea");
  if (field && event.key === "Escape") document.activeElement.blur();
  else if (field || !Object.hasOwn(keys, event.key)) return;
  else keys[event.key]();
  event.preventDefault();
});

document.getElementById("ask").addEventListener("click", () => help.showModal());

// Filters: a choice is an order, typed values wait for Enter. Fields that were left empty stay out of the address.
const filters = document.querySelector("form.filters");
filters?.addEventListener("change", (event) => {
  if (event.target.matches("select, [type=checkbox]")) filters.requestSubmit();
});
filters?.addEventListener("submit", () => {
  for (const field of filters.elements) field.disabled = field.name !== "" && field.value === "";
});

// The filters stay as they were left; on a phone they begin closed.
const more = document.getElementById("more");
if (more) {
  more.open = (sessionStorage.getItem("filters") ?? (innerWidth > 760 ? "open" : "")) === "open";
  // Before the click opens or closes them.
  more.firstElementChild.addEventListener("click", () => sessionStorage.setItem("filters", more.open ? "" : "open"));
}
// A page that the browser kept still has its fields disabled.
addEventListener("pageshow", () => {
  for (const field of filters?.elements ?? []) field.disabled = false;
});
