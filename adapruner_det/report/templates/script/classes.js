// Classes: what a cut costs.

const C = D.classNames.length;
const classFull = new Float64Array(C), boxFull = new Float64Array(C), class0 = new Float64Array(C);
const hasBoxes = D.boxes.some((own) => own.length);
for (let i = 0; i < N; i++) {
  for (const c of D.classes[i]) { classFull[c]++; class0[c] += D.kept0[i]; }
  const boxes = D.boxes[i];
  for (let j = 0; j < boxes.length; j += 6) if (!(boxes[j + 5] & 1)) boxFull[boxes[j + 4]]++;
}
function classCounts() {
  const images = new Float64Array(C), boxes = new Float64Array(C);
  for (let i = 0; i < N; i++) {
    if (!now[i]) continue;
    for (const c of D.classes[i]) images[c]++;
    const own = D.boxes[i];
    for (let j = 0; j < own.length; j += 6) if (!(own[j + 5] & 1)) boxes[own[j + 4]]++;
  }
  return {images, boxes};
}
const classRows = [];
function buildClasses() {
  const present = [...classFull.keys()].filter((c) => classFull[c] > 0);
  if (!present.length) { $("classes-panel").hidden = true; return; }
  present.sort((a, b) => class0[a] / classFull[a] - class0[b] / classFull[b] || a - b);
  for (const cell of document.querySelectorAll(".boxes-column")) cell.hidden = !hasBoxes;
  for (const c of present) {
    const bar = el("i"), mark = el("b"), share = el("span"), images = el("td", {class: "num"});
    const boxes = el("td", {class: "num boxes-column", hidden: !hasBoxes}), change = el("td", {class: "num"});
    const row = el("tr", {}, el("th", {scope: "row"}, el("bdi", {}, D.classNames[c])),
      el("td", {}, el("div", {class: "share"}, el("div", {class: "track", "aria-hidden": "true"}, bar, mark), share)), images, boxes, change);
    classRows.push({c, row, bar, mark, share, images, boxes, change});
    document.querySelector("#classes tbody").append(row);
    $("f-class").append(el("option", {value: c}, D.classNames[c]));
  }
  const sorted = [...$("f-class").options].slice(1).sort((a, b) => a.text.localeCompare(b.text, "en", {numeric: true}));
  $("f-class").append(...sorted);
}
function showClasses() {
  const {images, boxes} = classCounts();
  for (const own of classRows) {
    const share = images[own.c] / classFull[own.c], before = class0[own.c] / classFull[own.c];
    own.bar.style.width = `${100 * share}%`;
    own.mark.style.left = `calc(${100 * count / N}% - 1px)`;
    own.share.textContent = percent(share);
    own.images.textContent = `${whole(images[own.c])} of ${whole(classFull[own.c])}`;
    own.boxes.textContent = boxFull[own.c] ? `${whole(boxes[own.c])} of ${whole(boxFull[own.c])}` : "–";
    const points = 100 * (share - before);
    own.change.textContent = Math.abs(points) < 0.05 ? "0" : `${points > 0 ? "+" : "−"}${Math.abs(points).toFixed(1)}`;
    own.row.classList.toggle("lost", images[own.c] === 0);
  }
  showCost(images);
}
/** What this cut would do, the class that pays most first. */
function showCost(images) {
  const place = $("cut-cost");
  if (count === K0 && cut === K0 && !say.size) { place.textContent = "The cut as the run made it. Slide to see what another would cost."; return; }
  const costs = classRows.map(({c}) => [100 * (images[c] - class0[c]) / classFull[c], c]).sort((a, b) => a[0] - b[0]);
  const lost = classRows.filter(({c}) => !images[c]).map(({c}) => D.classNames[c]);
  const words = [count === K0 ? "as many images" : `${plural(Math.abs(count - K0), "image")} ${count < K0 ? "fewer" : "more"}`];
  const shown = (count > K0 ? costs.reverse() : costs).slice(0, 3).filter(([points]) => Math.abs(points) >= 0.05);
  if (shown.length) words.push(shown.map(([points, c]) => `${D.classNames[c]} ${points > 0 ? "+" : "−"}${Math.abs(points).toFixed(1)}`).join(", ") + " points");
  if (lost.length) words.unshift(`Lost: ${lost.slice(0, 3).join(", ")}${lost.length > 3 ? ` and ${lost.length - 3} more` : ""}`);
  place.textContent = words.join(" · ");
}
