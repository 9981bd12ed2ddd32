// Evaluation: accuracy with intervals, datasets, and the tables of results.json with the baselines.
function tableCard(table) {
  const rows = table.rows.map((row) =>
    h(
      "tr",
      { class: row[0].text === "" ? "more" : "begins" },
      row.map((cell, i) =>
        h(
          i === 0 ? "th" : "td",
          { scope: i === 0 ? "row" : null, class: i >= table.labels ? "num" : null },
          cell.bold ? h("strong", { text: cell.text }) : cell.text,
        ),
      ),
    ),
  );
  return h(
    "section",
    { class: "card wide" },
    h("div", { class: "card-head" }, h("h3", { text: table.title })),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "results" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            table.headings.map((text, i) => h("th", { scope: "col", class: i >= table.labels ? "num" : null, text })),
          ),
        ),
        h("tbody", {}, rows),
      ),
    ),
    table.notes.map((text) => h("p", { class: "note", text })),
  );
}

// Dots with their intervals, one a row, on a common scale. A long name is cut, and whole where it is pointed at.
const MOST_LETTERS = 40;
function intervals(rows, title) {
  const letters = Math.min(MOST_LETTERS, Math.max(...rows.map((row) => row.name.length)));
  const width = 640,
    left = Math.max(150, 7 * letters + 20),
    rowHeight = 30,
    height = rows.length * rowHeight + 30;
  const at = (v) => left + Math.min(1, Math.max(0, v)) * (width - left - 70);
  const marks = [0, 0.25, 0.5, 0.75, 1].map((v) => [
    s("line", { x1: at(v), x2: at(v), y1: 4, y2: height - 22, class: "grid" }),
    s("text", { x: at(v), y: height - 6, class: "tick middle" }, percent(v)),
  ]);
  const drawn = rows.map((row, i) => {
    const y = 20 + i * rowHeight;
    return [
      s(
        "text",
        { x: left - 12, y: y + 4, class: "row-name end" },
        row.name.length > MOST_LETTERS ? `${row.name.slice(0, MOST_LETTERS - 1)}…` : row.name,
        s("title", {}, row.name),
      ),
      Number.isFinite(row.low) &&
        s("line", { x1: at(row.low), x2: at(row.high), y1: y, y2: y, class: "whisker", stroke: row.colour }),
      Number.isFinite(row.value) && s("circle", { cx: at(row.value), cy: y, r: 5.5, fill: row.colour }),
      s("text", { x: width - 4, y: y + 4, class: "row-value end" }, percent(row.value)),
    ];
  });
  const spoken = rows.map((row) => `${row.name} ${percent(row.value)}`).join(", ");
  return h(
    "figure",
    { class: "plot" },
    s(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": `${title}: ${spoken}` },
      marks,
      drawn,
    ),
  );
}

function evaluationRows(run) {
  const row = (name, record, own) => ({
    name,
    value: nan(record.accuracy),
    low: nan(record.accuracy_low),
    high: nan(record.accuracy_high),
    colour: own,
    record,
  });
  const systems = Object.entries(run.systems);
  if (systems.length) return systems.map(([name, record], i) => row(name, record, i === 0 ? colour(0) : "var(--soft)"));
  const order = policySteps(run).sort(
    (a, b) => (Number.isFinite(a.step) ? a.step : -1) - (Number.isFinite(b.step) ? b.step : -1),
  );
  return order.map(({ name, record, step }) =>
    row(
      name === "best_reference"
        ? "best reference"
        : Number.isFinite(step)
          ? step === 0
            ? "before training"
            : `after step ${step}`
          : name,
      record,
      Number.isFinite(step) ? colour(0) : colour(3),
    ),
  );
}

function datasetCard(run) {
  const rows = evaluationRows(run).filter((row) => row.record.datasets);
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.record.datasets)))];
  if (!names.length) return null;
  const cells = (row) =>
    names.map((name) => {
      const found = row.record.datasets[name];
      return h("td", {
        class: "num heat",
        style: found ? `--heat:${found.accuracy}` : null,
        text: found ? percent(found.accuracy) : "–",
      });
    });
  return card(
    "By dataset",
    "exact answers",
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col", text: "evaluation" }),
            names.map((name) => h("th", { scope: "col", class: "num", text: name })),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map((row) => h("tr", {}, h("th", { scope: "row", text: row.name }), cells(row))),
        ),
      ),
    ),
  );
}

function evaluationCards(run) {
  const rows = evaluationRows(run);
  return [
    rows.length > 0 && card("Exact accuracy", "with its 95 % interval", intervals(rows, "exact accuracy")),
    datasetCard(run),
  ];
}

function evaluationView() {
  const made = S.runs
    .map((run) => {
      const cards = evaluationCards(run).filter(Boolean);
      if (!cards.length && !run.tables.length) return null;
      return [
        S.runs.length > 1 && heading(run.name),
        h("div", { class: "grid two" }, cards),
        run.tables.map(tableCard),
      ];
    })
    .filter(Boolean);
  return made.length ? made : [empty("Nothing was evaluated here (yet).")];
}
