// Figures.

const PAD = {left: 46, right: 12, top: 8, bottom: 38}, HIGH = 210;
/** Rising round numbers from 0 or low to high. */
function ticks(low, high, most = 4) {
  const rough = (high - low) / most || 1, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= rough * 0.999);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(+v.toPrecision(10));
  return found;
}
function frame(place, label, height = HIGH) {
  const width = Math.max(220, place.clientWidth);
  const root = svg("svg", {viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label});
  place.replaceChildren(root);
  return {root, width, height, x0: PAD.left, x1: width - PAD.right, y0: height - PAD.bottom, y1: PAD.top};
}
function text(x, y, words, anchor = "middle", more = {}) { return svg("text", {x, y, "text-anchor": anchor, ...more}, words); }
function axes(f, yTicks, yAt, yWords, xTicks, xAt, xWords, xTitle) {
  for (const v of yTicks) f.root.append(svg("path", {class: v ? "axis" : "axis base", d: `M${f.x0} ${yAt(v)}H${f.x1}`}), text(f.x0 - 6, yAt(v) + 4, yWords(v), "end"));
  let last = -Infinity;
  for (const v of xTicks) {
    const words = xWords(v), x = xAt(v);
    if (x - last < 7 * words.length + 8) continue;
    last = x;
    f.root.append(text(Math.min(Math.max(x, f.x0), f.x1 - 3 * words.length), f.y0 + 15, words));
  }
  f.root.append(text((f.x0 + f.x1) / 2, f.y0 + 33, xTitle));
}
let hatches = 0;
function hatch(root) {
  const id = `hatch${hatches++}`;
  root.append(svg("defs", {}, svg("pattern", {id, class: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse"},
    svg("rect", {width: 5, height: 5}), svg("path", {d: "M-1 1L1 -1M0 5L5 0M4 6L6 4"}))));
  return `url(#${id})`;
}
function legend(place, rows) {
  place.append(el("ul", {class: "legend"}, ...rows.map(([draw, words]) => {
    const root = svg("svg", {viewBox: "0 0 22 12", "aria-hidden": "true"});
    draw(root);
    return el("li", {}, root, words);
  })));
}
const box = (cls) => (root) => root.append(svg("rect", {class: cls, x: 2, y: 1, width: 18, height: 10, rx: 1}));
const hatched = (root) => root.append(svg("rect", {fill: hatch(root), class: "edge", x: 2, y: 1, width: 18, height: 10}));
const line = (cls) => (root) => root.append(svg("path", {class: cls, d: "M1 6H21"}));

function showHistory() {
  const h = D.history;
  $("no-history").hidden = !!h; $("history").hidden = !h;
  if (!h) return;
  const place = $("history"), last = h.steps.at(-1), first = h.steps[0];
  const f = frame(place, `Soft ratio from ${h.ratios[0].toFixed(3)} to ${h.ratios.at(-1).toFixed(3)}, α from ${h.alphas[0].toFixed(2)} to ${h.alphas.at(-1).toFixed(2)}, over ${last} steps`, 250);
  const xAt = (v) => f.x0 + (v - first) / (last - first) * (f.x1 - f.x0), split = f.y1 + 0.58 * (f.y0 - f.y1);
  const draw = (values, low, high, top, bottom, cls, marks, words, wordsAt) => {
    const yAt = (v) => bottom - (v - low) / (high - low) * (bottom - top);
    for (const v of marks) f.root.append(svg("path", {class: v === low ? "axis base" : "axis", d: `M${f.x0} ${yAt(v)}H${f.x1}`}), text(f.x0 - 6, yAt(v) + 4, short(v), "end"));
    f.root.append(svg("path", {class: cls, d: "M" + values.map((v, i) => `${xAt(h.steps[i]).toFixed(1)} ${yAt(v).toFixed(1)}`).join("L")}));
    f.root.append(text(f.x0 + 4, wordsAt, words, "start", {class: "strong"}));
    return yAt;
  };
  const yAt = draw(h.ratios, 0, 1, f.y1, split - 14, "s-kept", [0, 0.5, 1], "soft ratio r", split - 20);
  f.root.append(svg("path", {class: "s-goal", d: `M${f.x0} ${yAt(D.keepRatio)}H${f.x1}`}), text(f.x1, yAt(D.keepRatio) + (D.keepRatio > 0.85 ? 14 : -5), `asked ${+D.keepRatio.toFixed(4)}`, "end"));
  const top = Math.max(...h.alphas) * 1.02 || 1;
  draw(h.alphas, 0, top, split + 14, f.y0, "s-ink", ticks(0, top, 2), "α", split + 25);
  axes(f, [], null, null, ticks(first, last, 5), xAt, whole, "training step");
}

/** Bins over values: how many, where each begins, and which one takes a value; "log" is 0, 2 or 10. */
function binning(values, most = 28, log = 0) {
  const sorted = Float64Array.from(values).sort();
  if (!sorted.length) return null;
  const at = (q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  const to = (v) => log ? Math.log(Math.max(v, 1e-12)) / Math.log(log) : v, from = (v) => log ? log ** v : v;
  let low = to(at(0.002)), high = to(at(0.995));
  if (!(high > low)) { low -= 0.5; high += 0.5; }
  const step = (high - low) / most;
  return {low, high, most, log, to, of: (v) => Math.min(most - 1, Math.max(0, Math.floor((to(v) - low) / step))), at: (b) => from(low + b * step),
    marks: log ? powers(log, low, high) : ticks(low, high, 6)};
}
/** Powers of a base between two exponents; with what lies between them where they are few. */
function powers(base, low, high) {
  const found = [], between = base === 10 ? [1, 2, 5] : [1, 1.25, 1.5, 1.75];
  for (let e = Math.floor(low); e <= high; e++) {
    for (const m of high - low < 2.5 ? between : [1]) {
      const v = m * base ** e, at = Math.log(v) / Math.log(base);
      if (at >= low - 1e-9 && at <= high + 1e-9) found.push(+v.toPrecision(6));
    }
  }
  return found;
}
const median = (values) => { const s = Float64Array.from(values).sort(); return s.length ? +s[s.length >> 1].toPrecision(3) : null; };

const lossName = ["mean_loss", "last_loss"].find((name) => D.columns[name]) || "";
const losses = lossName ? D.columns[lossName] : D.score, finite = losses.filter((v) => v !== null);
/** Losses that span decades are shown by their logarithm. */
function spansDecades(values) {
  const sorted = Float64Array.from(values).sort(), at = (q) => sorted[Math.floor(q * (sorted.length - 1))];
  return lossName !== "" && sorted[0] > 0 && at(0.95) > 30 * at(0.05);
}
const LOSS_BINS = 30, lossBins = binning(finite, LOSS_BINS, spansDecades(finite) ? 10 : 0);
const lossBin = lossBins && losses.map((v) => v === null ? -1 : lossBins.of(v));
/** Kept above the axis, dropped below it, each in % of its own. */
function showLosses() {
  const place = $("losses"), counts = [new Float64Array(LOSS_BINS), new Float64Array(LOSS_BINS)], values = [[], []];
  if (!lossBins) { place.replaceChildren(el("p", {class: "note"}, "None of them is finite.")); return; }
  for (let i = 0; i < N; i++) if (lossBin[i] >= 0) { counts[now[i]][lossBin[i]]++; values[now[i]].push(losses[i]); }
  const sums = values.map((own) => own.length || 1), tops = counts.map((own, side) => Math.max(...own.map((v) => v / sums[side]), 0.01));
  const name = lossName === "mean_loss" ? "mean loss over the visits" : lossName === "last_loss" ? "loss at the last visit" : "score of the method";
  const f = frame(place, `Histogram of the ${name}: median ${short(median(values[1]))} of the kept, ${short(median(values[0]))} of the dropped`);
  const yTicks = ticks(-tops[0], tops[1], 4), low = Math.min(-tops[0], yTicks[0]), high = Math.max(tops[1], yTicks.at(-1));
  const yAt = (v) => f.y0 - (v - low) / (high - low) * (f.y0 - f.y1), wide = (f.x1 - f.x0) / LOSS_BINS, digits = yTicks.some((v) => Math.round(v * 1000) % 10) ? 1 : 0;
  const xAt = (v) => f.x0 + (lossBins.to(v) - lossBins.low) / (lossBins.high - lossBins.low) * (f.x1 - f.x0);
  axes(f, yTicks, yAt, (v) => percent(Math.abs(v), digits), lossBins.marks, xAt, short, `${name}${lossBins.log ? ", logarithmic" : ""}${lossName ? "" : ", lower is kept first"}`);
  const fill = hatch(f.root);
  counts.forEach((own, side) => own.forEach((v, b) => {
    if (!v) return;
    const share = v / sums[side], y = side ? yAt(share) : yAt(0);
    f.root.append(svg("rect", {...(side ? {class: "f-kept"} : {fill, class: "edge"}), x: f.x0 + b * wide + 0.75, width: Math.max(1, wide - 1.5), y, height: Math.abs(yAt(share) - yAt(0))},
      svg("title", {}, `${short(+lossBins.at(b).toPrecision(3))} to ${short(+lossBins.at(b + 1).toPrecision(3))}: ${plural(v, side ? "kept image" : "dropped image")}, ${percent(share)} of them`)));
  }));
  legend(place, [[box("f-kept"), `kept, % of ${whole(values[1].length)}, median ${short(median(values[1]))}`], [hatched, `dropped, % of ${whole(values[0].length)}, median ${short(median(values[0]))}`]]);
}

function paired(place, bins, full, kept, title, xWords, unit) {
  const high = Math.max(...full, 1), total = full.reduce((a, b) => a + b, 0), left = kept.reduce((a, b) => a + b, 0);
  const f = frame(place, `${title}: ${whole(left)} of ${whole(total)} stay`), yTicks = ticks(0, high, 4), top = Math.max(high, yTicks.at(-1));
  const yAt = (v) => f.y0 - v / top * (f.y0 - f.y1), wide = (f.x1 - f.x0) / bins.most;
  const xAt = (v) => f.x0 + (bins.to(v) - bins.low) / (bins.high - bins.low) * (f.x1 - f.x0) + (bins.each ? wide / 2 : 0);
  axes(f, yTicks, yAt, whole, bins.marks, xAt, xWords, title);
  full.forEach((all, b) => {
    if (!all) return;
    const narrow = Math.min(wide, 46), x = f.x0 + b * wide + (wide - narrow) / 2, from = bins.at(b), words = bins.each ? `${from}` : `${short(+from.toPrecision(3))} to ${short(+bins.at(b + 1).toPrecision(3))}`;
    f.root.append(svg("rect", {class: "f-full", x: x + 0.5, width: Math.max(1, narrow - 1), y: yAt(all), height: f.y0 - yAt(all)}),
      svg("rect", {class: "f-kept", x: x + 0.5 + narrow * 0.12, width: Math.max(1, (narrow - 1) * 0.76), y: yAt(kept[b]), height: f.y0 - yAt(kept[b])}),
      svg("rect", {x, width: narrow, y: f.y1, height: f.y0 - f.y1, fill: "transparent"}, svg("title", {}, `${words}: ${whole(kept[b])} of ${whole(all)} ${unit} stay, ${percent(kept[b] / all)}`)));
  });
  legend(place, [[box("f-full"), `all ${whole(total)} ${unit}`], [box("f-kept"), `kept ${whole(left)}, ${percent(left / (total || 1))}`]]);
}
const boxBins = [];                // of each sample, the bins of its boxes
let sizeBins = null, objectBins = null;
const objectCount = D.boxes.map((own) => { let c = 0; for (let j = 5; j < own.length; j += 6) c += own[j] & 1 ? 0 : 1; return c; });
function prepareBoxes() {
  if (!hasBoxes) { $("sizes-panel").hidden = $("objects-panel").hidden = true; return; }
  const sides = D.boxes.map((own) => {
    const found = [];
    for (let j = 0; j < own.length; j += 6) if (!(own[j + 5] & 1)) found.push(Math.sqrt(Math.max(1, (own[j + 2] - own[j]) * (own[j + 3] - own[j + 1]))));
    return found;
  });
  sizeBins = binning(sides.flat(), 26, 2);
  for (const own of sides) boxBins.push(own.map(sizeBins.of));
  const most = Math.max(...[...objectCount].sort((a, b) => a - b).slice(0, Math.ceil(0.998 * N)).slice(-1), 1), low = objectCount.reduce((a, b) => Math.min(a, b), most);
  const many = most - low + 1;
  objectBins = many > 40 ? binning(objectCount, 30) : {low, high: most + 1, most: many, each: true, to: (v) => v, marks: ticks(low, most, 7).filter(Number.isInteger), of: (v) => Math.min(many - 1, v - low), at: (b) => low + b};
}
function showBoxes() {
  if (!hasBoxes) return;
  const make = (bins) => [new Float64Array(bins.most), new Float64Array(bins.most)];
  const [sizeFull, sizeKept] = make(sizeBins), [countFull, countKept] = make(objectBins);
  for (let i = 0; i < N; i++) {
    for (const b of boxBins[i]) { sizeFull[b]++; sizeKept[b] += now[i]; }
    const b = objectBins.of(objectCount[i]);
    countFull[b]++; countKept[b] += now[i];
  }
  paired($("sizes"), sizeBins, [...sizeFull], [...sizeKept], "√(width × height), pixels, logarithmic", short, "boxes");
  paired($("objects"), objectBins, [...countFull], [...countKept], "boxes an image", short, "images");
}
