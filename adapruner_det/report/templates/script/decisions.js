// What a person decides.

const K0 = D.kept0.reduce((sum, own) => sum + own, 0);
let cut = K0;                      // K of the cut that the say is over
const say = new Map();             // index → whether it stays, whatever the cut does
let done = [], undone = [];        // steps as {cut: [before, after], say: [[i, before, after]]}
let saved = "";
const now = new Uint8Array(N);     // what stays in the end
let count = 0;

const byCut = (i) => cut === K0 ? D.kept0[i] === 1 : D.rank[i] < cut;
const stays = (i) => say.has(i) ? say.get(i) : byCut(i);
const changed = (i) => say.has(i) && say.get(i) !== byCut(i);
const moved = (i) => byCut(i) !== (D.kept0[i] === 1);

function recount() {
  count = 0;
  for (let i = 0; i < N; i++) count += now[i] = stays(i) ? 1 : 0;
}
/** Carry out a step, whose "before" is as things are. */
function act(step) {
  set(step, 1);
  done.push(step); undone = [];
  refresh(step);
}
function set(step, side) {
  if (step.cut) cut = step.cut[side];
  for (const own of step.say || []) {
    if (own[1 + side] === undefined) say.delete(own[0]); else say.set(own[0], own[1 + side]);
  }
}
function back() {
  const step = done.pop();
  if (step) { undone.push(step); set(step, 0); refresh(step); tell("Undone."); }
}
function forth() {
  const step = undone.pop();
  if (step) { done.push(step); set(step, 1); refresh(step); tell("Done again."); }
}
/** The say that makes sample i stay or go; none where the cut does that by itself. */
const wanted = (i, keep) => keep === byCut(i) ? undefined : keep;
function flip(i) {
  const keep = !stays(i);
  act({say: [[i, say.get(i), wanted(i, keep)]]});
  tell(`${keep ? "Kept" : "Dropped"}: ${titleOf(i)}. ${whole(count)} of ${whole(N)} kept.`);
}
function flipAll(indices, keep) {
  const steps = indices.filter((i) => stays(i) !== keep).map((i) => [i, say.get(i), wanted(i, keep)]);
  if (steps.length) act({say: steps});
  tell(`${plural(steps.length, "image")} ${keep ? "kept" : "dropped"}. ${whole(count)} of ${whole(N)} kept.`);
}
function tell(text) { $("live").textContent = text; }

function decisions() {
  const keep = [], drop = [];
  for (const [i, own] of say) if (own !== byCut(i)) (own ? keep : drop).push(D.keys[i]);
  return {adapruner_det_decisions: 1, selection: D.identity, num_kept: cut, keep: keep.sort(), drop: drop.sort()};
}
function save() {
  const text = JSON.stringify(decisions(), null, 1) + "\n";
  const url = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  const link = el("a", {href: url, download: "decisions.json"});
  document.body.append(link); link.click(); link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  saved = JSON.stringify(decisions());
  tell("Decisions saved as decisions.json.");
  showCount();
}
const index = new Map(D.keys.map((key, i) => [key, i]));
async function load(file) {
  try {
    const own = JSON.parse(await file.text());
    if (own.adapruner_det_decisions !== 1) throw new Error("it is no file of decisions");
    if (own.selection !== D.identity) throw new Error("it is on another selection");
    if (!Number.isInteger(own.num_kept) || own.num_kept < 1 || own.num_kept > N) throw new Error("its num_kept is out of range");
    const after = new Map();
    for (const [keys, keep] of [[own.keep, true], [own.drop, false]]) {
      for (const key of keys) {
        if (!index.has(key)) throw new Error(`it names ${key}, which is not here`);
        after.set(index.get(key), keep);
      }
    }
    const all = new Set([...say.keys(), ...after.keys()]);
    act({cut: [cut, own.num_kept], say: [...all].map((i) => [i, say.get(i), after.get(i)])});
    saved = JSON.stringify(decisions());
    showCount();
    tell(`${plural(after.size, "decision")} loaded.`);
  } catch (error) {
    tell(`${file.name} cannot be used: ${error.message}.`);
    $("changes").textContent = `${file.name} cannot be used: ${error.message}.`;
  }
}
addEventListener("beforeunload", (event) => {
  if (JSON.stringify(decisions()) !== saved && (say.size || cut !== K0)) event.preventDefault();
});
