// Setup: with what each run was made, what tells the runs apart, and where they lie.
function facts(run) {
  const m = run.manifest,
    versions = Object.entries(m.versions || {})
      .map(([name, version]) => `${name} ${version}`)
      .join(", ");
  const rows = [
    ["folder", run.path],
    ["status", run.status],
    ["begun", m.start],
    ["ended", m.end],
    ["command line", (m.argv || []).join(" ")],
    ["base model", m.base_model],
    ["commit", m.git],
    ["Python", m.python],
    ["packages", versions],
    ["resumed", (m.resumed || []).length ? `${m.resumed.length} times` : null],
  ];
  return h(
    "dl",
    { class: "facts" },
    rows.filter(([, value]) => value).map(([name, value]) => [h("dt", { text: name }), h("dd", { text: value })]),
  );
}

function configTable() {
  const names = [...new Set(S.runs.flatMap((run) => Object.keys(run.config)))];
  const filter = h("input", {
    type: "search",
    placeholder: "filter keys and values",
    "aria-label": "Filter the configuration",
    oninput: () => draw(),
  });
  const body = h("tbody", {});
  const draw = () => {
    const wanted = filter.value.toLowerCase();
    body.replaceChildren(
      ...names
        .filter((name) => [name, ...S.runs.map((run) => run.config[name])].join(" ").toLowerCase().includes(wanted))
        .map((name) =>
          h(
            "tr",
            { class: S.varying.includes(name) ? "varies" : null },
            h("th", { scope: "row", text: name }),
            S.runs.map((run) => h("td", { text: run.config[name] === undefined ? "–" : run.config[name] })),
          ),
        ),
    );
  };
  draw();
  return h(
    "section",
    { class: "card" },
    h("div", { class: "card-head spread" }, h("h3", { text: "Configuration" }), filter),
    h(
      "div",
      { class: "scroll tall" },
      h(
        "table",
        { class: "config" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col", text: "key" }),
            S.runs.map((run) => h("th", { scope: "col", text: run.name })),
          ),
        ),
        body,
      ),
    ),
  );
}

function setupView() {
  return [
    notices(),
    h(
      "div",
      { class: "grid" },
      S.runs.map((run) => card(run.name, null, facts(run))),
    ),
    configTable(),
    h("p", {
      class: "note",
      text: `Made ${S.made.replace("T", " ")}. This file holds everything and fetches nothing.`,
    }),
  ];
}
