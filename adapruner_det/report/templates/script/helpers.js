// Small helpers.

const D = JSON.parse(document.getElementById("data").textContent);
const N = D.n, SVG = "http://www.w3.org/2000/svg";
/** What a person calls sample i: its file where that is known, else its id. */
const titleOf = (i) => D.files[i] || D.names[i];
const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text, never markup. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [type, call] of Object.entries(value)) made.addEventListener(type, call);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
const whole = (x) => Math.round(x).toLocaleString("en");
const percent = (x, digits = 1) => `${(100 * x).toFixed(digits)}%`;
const short = (x) => x === null ? "not finite" : typeof x !== "number" ? String(x)
  : Number.isInteger(x) ? whole(x) : Math.abs(x) >= 1e5 || (x && Math.abs(x) < 1e-3) ? x.toExponential(2) : String(x);
const plural = (count, one, many = one + "s") => `${whole(count)} ${count === 1 ? one : many}`;
