// The gallery: only the cards that can be seen are there.

const grid = $("grid"), cards = el("div", {class: "cards"});
grid.append(cards);
let list = [], columns = 1, cardWide = 200, cardHigh = 260, active = 0, drawn = new Map();
const GAP = 12, OVER = 2, WORDS_HIGH = 134;

function filter() {
  const state = $("f-state").value, cls = $("f-class").value, reason = $("f-why").value, part = $("f-key").value.toLowerCase();
  const low = $("f-low").value === "" ? -Infinity : +$("f-low").value, high = $("f-high").value === "" ? Infinity : +$("f-high").value;
  const before = list[active];
  list = [];
  for (let i = 0; i < N; i++) {
    if (state === "dropped" ? now[i] : state === "kept" ? !now[i] : state === "said" ? !changed(i) : state === "moved" ? !moved(i) : false) continue;
    if (cls !== "" && !D.classes[i].includes(+cls)) continue;
    if (reason && (now[i] || reasonAt(i).code !== reason.slice(1))) continue;
    const score = D.score[i] === null ? Infinity : D.score[i];
    if (score < low || score > high) continue;
    if (part && !D.keys[i].toLowerCase().includes(part) && !(D.files[i] || "").toLowerCase().includes(part)) continue;
    list.push(i);
  }
  const order = $("f-order").value, r = D.rank;
  if (order !== "key") list.sort(order === "last" ? (a, b) => r[b] - r[a] : order === "first" ? (a, b) => r[a] - r[b] : (a, b) => Math.abs(r[a] - cut + 0.5) - Math.abs(r[b] - cut + 0.5) || a - b);
  active = Math.max(0, list.indexOf(before));
  $("shown").textContent = `${plural(list.length, "image")} shown.`;
  $("nothing").hidden = list.length > 0;
  $("keep-shown").disabled = $("drop-shown").disabled = !list.length;
  measure();
}
function measure() {
  const wide = grid.clientWidth, least = wide < 400 ? 140 : wide < 700 ? 180 : 210;
  columns = Math.max(1, Math.floor((wide + GAP) / (least + GAP)));
  cardWide = (wide - GAP * (columns - 1)) / columns;
  cardHigh = Math.round(cardWide * 0.75) + WORDS_HIGH;
  grid.style.height = `${Math.max(0, Math.ceil(list.length / columns) * (cardHigh + GAP) - GAP)}px`;
  clear();
}
function clear() {
  const focused = cards.contains(document.activeElement);
  drawn = new Map();
  cards.replaceChildren();
  draw();
  if (focused) drawn.get(active)?.focus({preventScroll: true});
}
function draw() {
  const top = -grid.getBoundingClientRect().top, step = cardHigh + GAP;
  const first = Math.max(0, Math.floor(top / step) - OVER) * columns;
  const last = Math.min(list.length, (Math.ceil((top + innerHeight) / step) + OVER) * columns);
  for (const [place, card] of drawn) if ((place < first || place >= last) && place !== active) { card.remove(); drawn.delete(place); }
  for (let place = first; place < last; place++) if (!drawn.has(place)) put(place);
  if (list.length && !drawn.has(active)) put(active);
}
function put(place) {
  const made = card(place), old = drawn.get(place);
  made.style.width = `${cardWide}px`; made.style.height = `${cardHigh}px`;
  made.style.transform = `translate(${(place % columns) * (cardWide + GAP)}px, ${Math.floor(place / columns) * (cardHigh + GAP)}px)`;
  drawn.set(place, made);
  if (old) old.replaceWith(made);
  else {   // in the order of the places, for whoever reads the page in its order
    let after = null, nearest = Infinity;
    for (const [other, node] of drawn) if (other > place && other < nearest && node.isConnected) { nearest = other; after = node; }
    cards.insertBefore(made, after);
  }
}
/** What of a sample is not as the run has it. */
function badgeOf(i) {
  if (changed(i)) return el("span", {class: "badge"}, "by you");
  return moved(i) ? el("span", {class: "badge by-cut"}, now[i] ? "would stay" : "would go") : null;
}
function card(place) {
  const i = list[place], twin = !now[i] && !changed(i) && reasonAt(i).code === "twin" ? twinOf(i) : -1;
  const state = now[i] ? "Kept" : "Dropped", facts = [`score ${short(D.score[i])}`];
  if (lossName) facts.push(`loss ${short(losses[i])}`);
  if (withPredicted() && guessed(i)) facts.unshift(guessed(i));
  if (!hasBoxes && D.classes[i].length) facts.unshift(`labelled ${D.classes[i].map((c) => D.classNames[c]).join(", ")}`);
  const high = cardHigh - WORDS_HIGH, wide = twin >= 0 ? cardWide / 2 : cardWide;
  const pics = el("div", {class: "pics", on: {click: () => { focus(place); view(i); }}}, picture(i, wide, high, "few", twin >= 0 ? "goes" : ""), twin >= 0 ? picture(twin, wide, high, "few", `${now[twin] ? "stays" : "goes too"}${cardWide < 190 ? "" : ": " + titleOf(twin)}`) : null, badgeOf(i));
  const made = el("div", {class: `card ${now[i] ? "kept" : "gone"}`, role: "listitem", tabindex: place === active ? 0 : -1, "data-key": D.keys[i], "aria-posinset": place + 1, "aria-setsize": list.length,
    "aria-label": `${titleOf(i)}: ${state}. ${why(i)}`, on: {focus: () => { if (active !== place) { drawn.get(active)?.setAttribute("tabindex", -1); active = place; made.setAttribute("tabindex", 0); } }}}, pics,
    el("div", {class: "words"},
      el("p", {class: "key", title: D.files[i] ? `${D.files[i]} · ${D.keys[i]}` : D.keys[i]}, el("bdi", {dir: "ltr"}, titleOf(i))),
      el("p", {class: "why", title: why(i)}, why(i, true)),
      el("span", {class: "small", title: facts.join(" · ")}, facts.join(" · ")),
      el("div", {class: "line"}, el("span", {class: "state"}, now[i] ? "✓ Kept" : "✕ Dropped"),
        el("button", {type: "button", class: "flip", tabindex: -1, "aria-label": `${now[i] ? "Drop" : "Keep"} ${titleOf(i)}`, on: {click: () => { focus(place); flip(i); }}}, now[i] ? "Drop" : "Keep"))));
  return made;
}
function focus(place, scroll = false) {
  if (!list.length) return;
  place = Math.max(0, Math.min(list.length - 1, place));
  drawn.get(active)?.setAttribute("tabindex", -1);
  active = place;
  if (!drawn.has(place)) put(place);
  const own = drawn.get(place);
  own.setAttribute("tabindex", 0);
  if (scroll) {
    const top = grid.getBoundingClientRect().top + Math.floor(place / columns) * (cardHigh + GAP), above = $("bar").offsetHeight + 10;
    if (top < above) scrollBy(0, top - above);
    else if (top + cardHigh > innerHeight - 10) scrollBy(0, top + cardHigh - innerHeight + 10);
    draw();
  }
  own.focus({preventScroll: true});
}
let waiting = false;
function soon() { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } }
addEventListener("scroll", soon, {passive: true});
