// Sources: a little highlighting of Python, findings at their lines, and what a repair changed.
const TOKEN =
  /(#[^\n]*)|((?:[rbfuRBFU]{0,2})(?:"""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))|\b(async|await|class|def|return|for|in|if|elif|else|while|try|except|finally|not|and|or|is|None|True|False|break|continue|import|from|as|pass)\b|(self\.[A-Za-z_]\w*|operator\.[A-Za-z_]\w*)|\b(\d+(?:\.\d+)?)\b/g;

function highlighted(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    parts.push(text.slice(end, match.index));
    const kind = ["comment", "string", "keyword", "call", "number"][
      match.slice(1).findIndex((part) => part !== undefined)
    ];
    parts.push(h("span", { class: `py-${kind}` }, match[0]));
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}

function sourceView(text, findings = []) {
  const lines = text.replace(/\n$/, "").split("\n");
  const rows = lines.map((line, i) =>
    codeRow(
      i + 1,
      line,
      "",
      findings.filter((finding) => finding.line === i + 1),
    ),
  );
  const outside = findings.filter((finding) => finding.line < 1 || finding.line > lines.length);
  return h(
    "div",
    { class: "code", role: "region", tabindex: "0", "aria-label": "workflow source" },
    rows,
    outside.map(findingRow),
  );
}

const codeRow = (number, line, mark, findings = []) => [
  h(
    "div",
    { class: `code-row ${mark}${findings.length ? " bad" : ""}` },
    h("span", { class: "number", "aria-hidden": "true", text: number }),
    h("span", { class: "sign", text: mark === "added" ? "+" : mark === "removed" ? "−" : "" }),
    h("code", {}, highlighted(line)),
  ),
  findings.map(findingRow),
];
const findingRow = (finding) => h("div", { class: "finding" }, h("b", { text: finding.code }), " ", finding.message);

// The lines of two sources: kept, removed or added (longest common subsequence).
function difference(before, after) {
  const a = before.replace(/\n$/, "").split("\n"),
    b = after.replace(/\n$/, "").split("\n");
  const common = Array.from({ length: a.length + 1 }, () => new Int32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  const made = [];
  let i = 0,
    j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      made.push(["", a[i++]]);
      j++;
    } else if (i < a.length && (j >= b.length || common[i + 1][j] >= common[i][j + 1])) made.push(["removed", a[i++]]);
    else made.push(["added", b[j++]]);
  }
  return made;
}

function repairView(before, after) {
  let number = 0;
  const rows = difference(before, after).map(([mark, line]) => codeRow(mark === "removed" ? "" : ++number, line, mark));
  return h(
    "div",
    { class: "code", role: "region", tabindex: "0", "aria-label": "workflow source with repairs marked" },
    rows,
  );
}
