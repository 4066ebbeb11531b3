// One image.

let viewed = -1;
const SIGNS = "The numbers are those of the boxes in the image; a dotted box with a question mark is a prediction without one.";
function view(i) {
  viewed = i;
  showView();
  if (!$("view").open) { $("view").showModal(); $("view-flip").focus(); }
}
function showView() {
  const i = viewed, twin = D.kept0[viewed] && now[viewed] ? -1 : twinOf(viewed), body = document.querySelector("#view .view-body");
  if (i < 0) return;
  $("view-title").replaceChildren(el("bdi", {}, titleOf(i)));
  $("view-flip").textContent = now[i] ? "Drop it" : "Keep it";
  const wide = Math.min(innerWidth - 60, 620) / (twin >= 0 && D.size[i][0] <= 1.2 * D.size[i][1] ? 2 : 1);
  const figure = (j, words) => {
    const own = picture(j, wide, wide, "all");
    own.style.setProperty("--shape", D.size[j][0] ? `${D.size[j][0]} / ${D.size[j][1]}` : "4 / 3");
    return el("figure", {}, own, el("figcaption", {}, el("bdi", {}, words)));
  };
  const pics = el("div", {class: "view-pics"}, figure(i, `${now[i] ? "kept" : "dropped"} · ${D.size[i][0] ? `${D.size[i][0]} × ${D.size[i][1]} pixels` : ""}`), twin >= 0 ? figure(twin, `its twin ${titleOf(twin)}, ${now[twin] ? "kept" : "dropped"}`) : null);
  const rows = [["Key", D.keys[i]], ["Place", `${whole(D.rank[i] + 1)} of ${whole(N)}; the cut keeps ${whole(cut)}`], ["Score", short(D.score[i])]];
  rows.push(["Classes", D.classes[i].map((c) => D.classNames[c]).join(", ") || "none"]);
  for (const [name, values] of Object.entries(D.columns)) rows.push([name.replaceAll("_", " "), short(values[i])]);
  const objects = [];
  for (let j = 0; j < D.boxes[i].length; j += 6) {
    const [x0, y0, x1, y1, c, flags] = D.boxes[i].slice(j, j + 6), alone = D.against[i] && D.against[i][0].includes(j / 6);
    objects.push(el("tr", {}, el("td", {class: "num"}, String(j / 6 + 1)), el("td", {}, el("bdi", {}, D.classNames[c]), flags & 1 ? " (crowd)" : flags & 2 ? " (difficult)" : ""), el("td", {class: "num"}, `${Math.round(x1 - x0)} × ${Math.round(y1 - y0)}`), D.predicted ? el("td", {}, alone ? "no prediction agrees" : "") : null));
  }
  const [w, h] = D.size[i];
  pics.classList.toggle("pile", twin >= 0 && w > 1.2 * h);
  body.replaceChildren(pics, el("div", {class: "view-words"}, el("p", {class: now[i] ? "kept" : "gone"}, el("strong", {}, now[i] ? "Kept. " : "Dropped. "), why(i)),
    suspects(i).boxes.length && D.boxes[i].length > 6 || suspects(i).missing.length ? el("p", {class: "muted"}, SIGNS) : null,
    guessed(i) ? el("p", {}, guessed(i)) : null,
    against(i) && reasonAt(i).code !== "fault" ? el("p", {}, against(i) + ".") : null,
    el("table", {}, el("tbody", {}, ...rows.map(([name, value]) => el("tr", {}, el("th", {scope: "row"}, name), el("td", {}, el("bdi", {}, value)))))),
    objects.length ? el("h3", {}, "Boxes, width × height in pixels") : null, objects.length ? el("table", {}, el("tbody", {}, ...objects)) : null));
  body.scrollTop = 0;
}
function turn(step) {
  const place = list.indexOf(viewed);
  if (place < 0 || !list[place + step] && list[place + step] !== 0) return;
  focusAfterView = place + step;
  view(list[place + step]);
}
let focusAfterView = -1;
$("view").addEventListener("close", () => { const place = list.indexOf(viewed); viewed = -1; focus(focusAfterView >= 0 ? focusAfterView : Math.max(place, 0), true); focusAfterView = -1; });
