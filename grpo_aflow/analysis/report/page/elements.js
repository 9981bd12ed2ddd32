// Elements: making HTML and SVG without a library, and writing numbers.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3))
    if (child !== null && child !== undefined && child !== false) node.append(child);
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function figure(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  if (size >= 100000) return Math.round(value).toLocaleString("en");
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(+value.toFixed(size >= 100 ? 1 : digits));
}
const percent = (value) =>
  Number.isFinite(value) ? `${(100 * value).toFixed(value > 0.0995 || value === 0 ? 0 : 1)} %` : "–";
const usd = (value) =>
  Number.isFinite(value)
    ? value === 0
      ? "$0"
      : value < 0.01
        ? `$${value.toPrecision(2)}`
        : `$${value.toFixed(2)}`
    : "–";
const signed = (value, digits = 2) =>
  Number.isFinite(value) ? (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(digits) : "–";

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const PALETTE = 9;
const colour = (i) => `var(--c${i % PALETTE})`;
const operatorColours = new Map();
function operatorColour(slot) {
  const name = slot.replace(/\*$/, "");
  const known = [
    "custom",
    "programmer",
    "answer_generate",
    "sc_ensemble",
    "review",
    "revise",
    "custom_code_generate",
    "majority_vote",
    "test",
    "md_ensemble",
    "format",
  ];
  if (!operatorColours.has(name)) {
    const place = known.indexOf(name);
    operatorColours.set(name, colour(place >= 0 ? place : operatorColours.size + 4));
  }
  return operatorColours.get(name);
}

const TIERS = ["0", "0.2", "0.4", "0.7", "1"];
const tierName = (tier) => (Number.isFinite(tier) ? String(tier) : "none");
const tierChip = (tier) =>
  h(
    "span",
    { class: `tier tier-${tierName(tier).replace(".", "_")}`, title: "tier of the grade" },
    Number.isFinite(tier) ? String(tier) : "–",
  );
const pill = (status) => h("span", { class: `pill status-${status.replace(/[^\w]/g, "-")}` }, status);

const card = (title, note, ...children) =>
  h(
    "section",
    { class: "card" },
    h("div", { class: "card-head" }, h("h3", { text: title }), note && h("p", { class: "note", text: note })),
    ...children,
  );
const heading = (text, note) =>
  h("div", { class: "heading" }, h("h2", { text }), note && h("p", { class: "note", text: note }));
const say = (text) => {
  document.getElementById("live").textContent = text;
};
const empty = (text) => h("p", { class: "empty", text });
