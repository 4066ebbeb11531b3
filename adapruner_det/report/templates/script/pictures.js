// Pictures.

const HUES = ["#56b4e9", "#f0e442", "#e69f00", "#00d29a", "#ff8fd0", "#ff7043", "#ffffff", "#b39dff"];
const DASHES = ["", "8 3", "14 4", "10 3 4 3"], DOTS = "1.5 2.5";   // of annotations, of predictions
const withBoxes = () => $("s-boxes").checked, withPredicted = () => $("s-predicted").checked && D.predicted;
/** What is predicted of sample i; nothing where it is not known. */
const predictedOf = (i) => (D.predicted && D.predicted[i]) || [];
/** One outline, dark below and coloured above, with its words above it, or "below" in it. */
function outline(root, [x0, y0, x1, y1], hue, dash, words, unit, thin, right, below = false) {
  const at = {x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0), fill: "none", "vector-effect": "non-scaling-stroke"};
  root.append(svg("rect", {...at, stroke: "#000", "stroke-opacity": 0.65, "stroke-width": thin ? 2.5 : 4}),
    svg("rect", {...at, stroke: hue, "stroke-width": thin ? 1.25 : 2, "stroke-dasharray": dash}));
  if (!words) return;
  const size = 11 * unit, wide = (words.length * 0.61 + 0.6) * size;
  const x = Math.max(0, Math.min(x0, right - wide)), y = below ? Math.max(0, y1 - 1.3 * size) : Math.max(0, y0 - 1.3 * size);
  root.append(svg("rect", {x, y, width: wide, height: 1.3 * size, fill: "#000", "fill-opacity": 0.72}),
    svg("text", {x: x + 0.3 * size, y: y + size, "font-size": size, fill: hue, "font-family": "ui-monospace, monospace"}, words));
}
/** The image of sample i with its boxes, in a place of wide × high CSS pixels. */
function picture(i, wide, high, labels, tag) {
  const [w, h] = D.size[i], place = el("div", {class: "pic" + (Math.max(w, h) <= 64 ? " exact" : "")});
  if (D.src[i]) {
    const classes = [...new Set(D.classes[i])].slice(0, 4).map((c) => D.classNames[c]).join(", ");
    const boxes = objectCount[i] ? `, ${plural(objectCount[i], "box", "boxes")}` : "";
    place.append(el("img", {src: D.src[i], alt: `${titleOf(i)}${classes ? ": " + classes : ""}${boxes}`, loading: "lazy", decoding: "async", draggable: "false"}));
  } else place.append(el("span", {class: "none"}, w ? "no thumbnail in this report" : "image not at hand"));
  if (w && D.src[i]) {
    const root = svg("svg", {viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true"});
    const unit = Math.max(w / wide, h / high), boxes = D.boxes[i], said = predictedOf(i), meant = suspects(i);
    const all = labels === "all", few = boxes.length <= 30, nameOf = (c) => (D.classNames[c] || `class ${c}`).slice(0, 28);
    if (withBoxes()) for (let j = 0; j < boxes.length; j += 6) {
      const [c, flags] = boxes.slice(j + 4, j + 6), is = meant.boxes.includes(j / 6);
      const words = [boxes.length > 6 && (all || is) ? j / 6 + 1 : "", all || few ? nameOf(c) : "", all || few ? ["", "crowd", "difficult", "crowd"][flags] : ""];
      outline(root, boxes.slice(j, j + 4), HUES[c % HUES.length], DASHES[(c / HUES.length | 0) % DASHES.length], words.filter((own) => own !== "").join(" "), unit, boxes.length > 60 && !is, w);
    }
    if (hasBoxes) for (let j = 0; j < said.length; j += 6) {
      const [c, score] = said.slice(j + 4, j + 6), is = meant.missing.includes(j / 6) && withBoxes();
      if (!is && !(withPredicted() && score >= 0.25)) continue;
      const words = `${all || is && few ? nameOf(c) : ""}${is ? "?" : ""}${all ? ` ${score.toFixed(2)}` : ""}`;
      outline(root, said.slice(j, j + 4), HUES[c % HUES.length], DOTS, words, unit, !is, w, true);
    }
    place.append(root);
  }
  if (tag) place.append(el("span", {class: "tag"}, el("bdi", {}, tag)));
  return place;
}
/** What a classifier says of sample i. */
function guessed(i) {
  const own = predictedOf(i);
  return own.length === 2 ? `predicted ${D.classNames[own[0]] || "class " + own[0]} ${own[1].toFixed(2)}` : "";
}
