// All together.

function showCount() {
  $("count").replaceChildren(`${whole(count)} of ${whole(N)} kept`, el("span", {class: "more"}, `(${percent(count / N, 2)})`));
  const own = [...say.keys()].filter(changed), kept = own.filter((i) => say.get(i)).length;
  const words = own.length ? `by you: ${kept} called back, ${own.length - kept} sent away` : cut === K0 ? "nothing changed by you" : "another ratio, nothing by you";
  const unsaved = JSON.stringify(decisions()) !== saved && (own.length || cut !== K0);
  $("changes").textContent = unsaved && (own.length || cut !== K0) ? `${words} · not saved` : words;
  $("undo").disabled = !done.length; $("redo").disabled = !undone.length;
  $("reset-cut").disabled = cut === K0;
  $("cut").value = cut;
  $("cut-ratio").replaceChildren((cut / N).toFixed(4), el("span", {class: "more"}, `· ${whole(cut)} of ${whole(N)}`));
  $("cut").setAttribute("aria-valuetext", `${percent(cut / N)}: ${cut} of ${N} images`);
}
/** After a step: the figures, and the cards that it concerns. */
function refresh(step) {
  recount();
  showCount(); showClasses(); showReasons(); later();
  if (step && step.cut) filter();
  else {
    const own = new Set((step ? step.say : []).map(([i]) => i)), focused = document.activeElement;
    for (const [place] of [...drawn]) if (own.has(list[place]) || own.has(twinOf(list[place]))) {
      const had = drawn.get(place).contains(focused);
      put(place);
      if (had) drawn.get(place).focus({preventScroll: true});
    }
  }
  if (viewed >= 0) showView();
}
let pending = 0;
function later() { cancelAnimationFrame(pending); pending = requestAnimationFrame(() => { showLosses(); showBoxes(); }); }

let sliding = null, slide = 0;
$("cut").max = N;
$("cut").addEventListener("input", () => {
  if (sliding === null) sliding = cut;
  cut = +$("cut").value;
  cancelAnimationFrame(slide);
  slide = requestAnimationFrame(() => { recount(); showCount(); showClasses(); later(); });
});
$("cut").addEventListener("change", () => {
  cancelAnimationFrame(slide);
  const from = sliding === null ? cut : sliding, to = +$("cut").value;
  sliding = null; cut = from;
  if (from !== to) act({cut: [from, to]});
  tell(`${whole(count)} of ${whole(N)} kept. ${$("cut-cost").textContent}`);
});
$("reset-cut").addEventListener("click", () => { if (cut !== K0) act({cut: [cut, K0]}); });
$("undo").addEventListener("click", back); $("redo").addEventListener("click", forth);
$("save").addEventListener("click", save);
$("load").addEventListener("change", () => { const [file] = $("load").files; if (file) load(file); $("load").value = ""; });
$("help").addEventListener("click", () => $("keys").showModal());
$("keys-close").addEventListener("click", () => $("keys").close());
$("view-close").addEventListener("click", () => $("view").close());
$("view-flip").addEventListener("click", () => flip(viewed));
$("view-prev").addEventListener("click", () => turn(-1)); $("view-next").addEventListener("click", () => turn(1));
for (const id of ["view", "keys"]) $(id).addEventListener("click", (event) => { if (event.target === $(id)) $(id).close(); });
$("filters").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["f-state", "f-class", "f-why", "f-order"]) $(id).addEventListener("change", filter);
let typing = 0;
for (const id of ["f-low", "f-high", "f-key"]) $(id).addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filter, 120); });
for (const id of ["s-boxes", "s-predicted"]) $(id).addEventListener("change", () => { clear(); if (viewed >= 0) showView(); });
$("keep-shown").addEventListener("click", () => flipAll(list, true));
$("drop-shown").addEventListener("click", () => flipAll(list, false));
const toggle = (id) => { const own = $(id); if (!own.disabled) { own.checked = !own.checked; own.dispatchEvent(new Event("change")); } };

addEventListener("keydown", (event) => {
  const key = event.key, mod = event.ctrlKey || event.metaKey, at = event.target;
  const writes = at.matches("select, textarea, input:not([type=checkbox]):not([type=range])");
  if (mod && !event.altKey && !writes && key.toLowerCase() === "z") { event.preventDefault(); (event.shiftKey ? forth : back)(); return; }
  if (mod && !event.altKey && !writes && key.toLowerCase() === "y") { event.preventDefault(); forth(); return; }
  if (mod || event.altKey || writes) return;
  const opened = $("view").open, place = at.classList.contains("card");
  const plain = {u: back, U: forth, b: () => toggle("s-boxes"), p: () => toggle("s-predicted"), s: save, "?": () => { if (!$("keys").open && !opened) $("keys").showModal(); }};
  if (plain[key]) { event.preventDefault(); plain[key](); return; }
  if (opened) {
    const own = {ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), x: () => flip(viewed)};
    if (own[key]) { event.preventDefault(); own[key](); }
    return;
  }
  if ($("keys").open) return;
  if (key === "/") { event.preventDefault(); $("gallery").scrollIntoView(); $("f-key").focus(); return; }
  if (key === "g") { event.preventDefault(); $("gallery").scrollIntoView(); focus(active, true); return; }
  if (key === "x" && !place && list.length) return;
  if (!place) return;
  const rows = Math.max(1, Math.floor((innerHeight - $("bar").offsetHeight) / (cardHigh + GAP)));
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: rows * columns, PageUp: -rows * columns, Home: -list.length, End: list.length};
  if (key in steps) {
    const next = active + steps[key];
    event.preventDefault();
    if (next >= 0 && next < list.length || !key.startsWith("Arrow")) focus(next, true);
  } else if (key === "x" || key === " ") { event.preventDefault(); flip(list[active]); }
  else if (key === "Enter") { event.preventDefault(); view(list[active]); }
});

function start() {
  const isLoss = lossName !== "";
  $("losses-title").textContent = isLoss ? "Losses" : "Scores";
  $("losses-words").textContent = isLoss ? "Images by their loss, in % of the kept and of the dropped ones. The last bars take what lies beyond." : "The method has no losses. Images by its score, in % of the kept and of the dropped ones.";
  const asked = D.predicted ? D.predicted.filter((own) => own !== null).length : 0;
  $("s-predicted-label").hidden = !asked;
  $("s-predicted-of").textContent = asked < N ? `of ${plural(asked, "image")}` : "";
  $("s-boxes").parentElement.hidden = !hasBoxes;
  if (!D.byScore) $("cut").title = "This method chose a set. At another ratio samples are ranked by its score alone.";
  if (D.files.length) $("f-key-words").textContent = "Key or file contains";
  $("panels").classList.toggle("few", !hasBoxes);
  recount(); buildClasses(); buildReasons(); prepareBoxes();
  showCount(); showClasses(); showReasons(); showHistory(); showLosses(); showBoxes();
  if (count === N) $("f-state").value = "all";
  filter();
  let wide = innerWidth, timer = 0;
  addEventListener("resize", () => { soon(); if (innerWidth === wide) return; wide = innerWidth; clearTimeout(timer); timer = setTimeout(() => { showHistory(); showLosses(); showBoxes(); measure(); }, 80); });
  new ResizeObserver(() => { if (grid.clientWidth && Math.abs(grid.clientWidth - (cardWide * columns + GAP * (columns - 1))) > 1) measure(); }).observe(grid);
  document.documentElement.dataset.ready = "1";
}
start();
