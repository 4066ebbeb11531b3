// Why.

const wordOf = (code) => code ? code[0].toUpperCase() + code.slice(1) : "Score";
const reasonAt = (i) => D.reasons[D.kept0[i] ? D.later[i] : D.why[i]];
/** Why sample i is dropped now, in words; of a kept one where it stands. */
function why(i, briefly = false) {
  if (now[i]) {
    if (changed(i)) return "You called it back.";
    return D.rank[i] < cut ? `Stays: place ${whole(D.rank[i] + 1)} of ${whole(N)}.` : "Stays by the method's choice.";
  }
  if (changed(i)) return "You sent it away.";
  const {code, words, brief} = reasonAt(i);
  if (code === "twin" && twinOf(i) >= 0) return `Twin of ${titleOf(twinOf(i))}, which ${now[twinOf(i)] ? "stays" : "goes too"}.`;
  if (code === "fault" && against(i, true)) return `${briefly ? "Fault" : words}: ${against(i, true)}.`;
  return `${briefly ? brief : words}.`;
}
const twinOf = (i) => D.twin[i];
/** What the predictions have against the annotation of sample i; "faintly": or the box that they meet least. */
function against(i, faintly = false) {
  if (!D.against[i]) return "";
  const [alone, missing, least] = D.against[i], parts = [];
  const name = (j) => `box ${j + 1} (${D.classNames[D.boxes[i][6 * j + 4]]})`;
  const more = alone.length > 3 ? ` and ${alone.length - 3} more` : "";
  if (alone.length) parts.push(`No prediction agrees with ${alone.slice(0, 3).map(name).join(", ")}${more}`);
  if (missing.length) parts.push(`${plural(missing.length, "sure prediction")} ${missing.length === 1 ? "has" : "have"} no box`);
  if (!parts.length && faintly && least >= 0) parts.push(`The predictions meet ${name(least)} least`);
  return parts.join("; ");
}
/** The boxes, and the predictions without one, that a fault of sample i is seen in; of one that goes. */
function suspects(i) {
  if (byCut(i) || reasonAt(i).code !== "fault" || !D.against[i]) return {boxes: [], missing: []};
  const [alone, missing, least] = D.against[i];
  return {boxes: alone.length || missing.length || least < 0 ? alone : [least], missing};
}
function buildReasons() {
  const codes = new Set(D.reasons.map(({code}) => code));
  for (const code of codes) $("f-why").append(el("option", {value: "=" + code}, wordOf(code).toLowerCase()));
  $("f-why").parentElement.hidden = codes.size < 2;
}
function showReasons() {
  const counts = new Map();
  for (let i = 0; i < N; i++) if (!now[i]) { const code = changed(i) ? "*" : reasonAt(i).code; counts.set(code, (counts.get(code) || 0) + 1); }
  const rows = [...counts].sort((a, b) => b[1] - a[1]).map(([code, many]) => {
    const words = code === "*" ? "You sent them away" : D.reasons.find((own) => own.code === code).words;
    const pick = () => { $("f-state").value = code === "*" ? "said" : "dropped"; $("f-why").value = code === "*" ? "" : "=" + code; filter(); $("gallery").scrollIntoView(); };
    return el("li", {}, el("button", {type: "button", title: "Show these images", on: {click: pick}}, el("strong", {}, whole(many)), el("span", {}, words)));
  });
  $("reasons").replaceChildren(...(rows.length ? rows : [el("li", {class: "note"}, "Nothing is dropped.")]));
}
