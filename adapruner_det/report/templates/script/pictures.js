// Pictures.

const HUES = ["#56b4e9", "#f0e442", "#e69f00", "#00d29a", "#ff8fd0", "#ff7043", "#ffffff", "#b39dff"];
const DASHES = ["", "7 3", "2 3", "10 3 2 3"];
const withBoxes = () => $("s-boxes").checked, withPredicted = () => $("s-predicted").checked && D.predicted;
/** One outline, dark below and coloured above, with its words where there is room. */
function outline(root, [x0, y0, x1, y1], hue, dash, words, unit, thin, right) {
  const at = {x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0), fill: "none", "vector-effect": "non-scaling-stroke"};
  root.append(svg("rect", {...at, stroke: "#000", "stroke-opacity": 0.65, "stroke-width": thin ? 2.5 : 4}),
    svg("rect", {...at, stroke: hue, "stroke-width": thin ? 1.25 : 2, "stroke-dasharray": dash}));
  if (!words) return;
  const size = 11 * unit, wide = (words.length * 0.61 + 0.6) * size;
  const x = Math.max(0, Math.min(x0, right - wide)), y = Math.max(0, y0 - 1.3 * size);
  root.append(svg("rect", {x, y, width: wide, height: 1.3 * size, fill: "#000", "fill-opacity": 0.72}),
    svg("text", {x: x + 0.3 * size, y: y + size, "font-size": size, fill: hue, "font-family": "ui-monospace, monospace"}, words));
}
/** The image of sample i with its boxes, in a place of wide × high CSS pixels. */
function picture(i, wide, high, labels, tag) {
  const [w, h] = D.size[i], place = el("div", {class: "pic" + (Math.max(w, h) <= 64 ? " exact" : "")});
  if (D.src[i]) {
    const classes = [...new Set(D.classes[i])].slice(0, 4).map((c) => D.classNames[c]).join(", ");
    const boxes = objectCount[i] ? `, ${plural(objectCount[i], "box", "boxes")}` : "";
    place.append(el("img", {src: D.src[i], alt: `${D.names[i]}${classes ? ": " + classes : ""}${boxes}`, loading: "lazy", decoding: "async", draggable: "false"}));
  } else place.append(el("span", {class: "none"}, w ? "no thumbnail in this report" : "image not at hand"));
  if (w && D.src[i]) {
    const root = svg("svg", {viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true"});
    const unit = Math.max(w / wide, h / high), boxes = D.boxes[i], said = D.predicted ? D.predicted[i] : [];
    if (withBoxes()) for (let j = 0; j < boxes.length; j += 6) {
      const c = boxes[j + 4], crowd = boxes[j + 5] & 1;
      const words = labels === "all" || (labels === "few" && boxes.length <= 30) ? `${labels === "all" && boxes.length > 6 ? j / 6 + 1 + " " : ""}${D.classNames[c]}${crowd ? " crowd" : boxes[j + 5] & 2 ? " difficult" : ""}`.slice(0, 28) : "";
      outline(root, boxes.slice(j, j + 4), HUES[c % HUES.length], DASHES[(c / HUES.length | 0) % DASHES.length], words, unit, boxes.length > 60, w);
    }
    if (withPredicted() && hasBoxes) for (let j = 0; j < said.length; j += 6) {
      if (said[j + 5] < 0.25) continue;
      outline(root, said.slice(j, j + 4), HUES[said[j + 4] % HUES.length], "3 3", labels === "all" ? `${D.classNames[said[j + 4]] || "class " + said[j + 4]} ${said[j + 5].toFixed(2)}`.slice(0, 28) : "", unit, true, w);
    }
    place.append(root);
  }
  if (tag) place.append(el("span", {class: "tag"}, el("bdi", {}, tag)));
  return place;
}
/** What a classifier says of sample i. */
function guessed(i) {
  const own = D.predicted ? D.predicted[i] : [];
  return own.length === 2 ? `predicted ${D.classNames[own[0]] || "class " + own[0]} ${own[1].toFixed(2)}` : "";
}
