// Filters of the rollout browser: over typed columns, and the bar that sets them.
const noFilters = () => ({
  run: "",
  part: "",
  from: "",
  to: "",
  dataset: "",
  status: "",
  error: "",
  tiers: new Set(),
  text: "",
});

function matching() {
  const f = browser.filters,
    t = R;
  const place = (name) => (name === "" ? -1 : t.names.indexOf(name));
  const part = place(f.part),
    status = place(f.status),
    error = place(f.error);
  const run = f.run === "" ? -1 : Number(f.run),
    from = f.from === "" ? -Infinity : Number(f.from),
    to = f.to === "" ? Infinity : Number(f.to);
  const inDataset = f.dataset === "" ? null : t.tasks.map((task) => task.dataset === f.dataset);
  const hit = f.text.trim() === "" ? null : found(t, (browser.search ||= searchIndex(t)), f.text.trim());
  const made = [];
  for (let i = 0; i < t.n; i++) {
    if (run >= 0 && t.run[i] !== run) continue;
    if (part >= 0 && t.part[i] !== part) continue;
    if (t.step[i] < from || t.step[i] > to) continue;
    if (status >= 0 && t.status[i] !== status) continue;
    if (inDataset && !inDataset[t.task[i]]) continue;
    if (f.tiers.size && !f.tiers.has(tierName(t.tier[i]))) continue;
    if (error >= 0 && !t.errors[i].includes(error)) continue;
    if (hit && !hit[i]) continue;
    made.push(i);
  }
  return sorted(Int32Array.from(made));
}

function sorted(places) {
  const [name, sign] = browser.order;
  if (!name) return places;
  const key = name === "task" ? R.tasks.map((task) => task.id) : null;
  const value = key ? (i) => key[R.task[i]] : (i) => R[name][i];
  const compare = (a, b) => {
    const x = value(a),
      y = value(b);
    if (x === y) return a - b;
    if (x !== x) return 1;
    if (y !== y) return -1;
    return x < y ? -sign : sign;
  };
  return places.sort(compare);
}

function select(name, label, values, shown = (v) => v) {
  const node = h(
    "select",
    {
      id: `filter-${name}`,
      onchange: () => {
        browser.filters[name] = node.value;
        applyFilters();
      },
    },
    h("option", { value: "", text: "all" }),
    values.map((value) =>
      h("option", { value, text: shown(value), selected: String(browser.filters[name]) === String(value) }),
    ),
  );
  return h("label", {}, label, node);
}

function filterBar() {
  const used = (column) => [...new Set(column)].map((place) => R.names[place]);
  const counts = new Map();
  for (const list of R.errors)
    for (const error of list) counts.set(R.names[error], (counts.get(R.names[error]) || 0) + 1);
  const errors = [...counts].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const step = (name, label) => {
    const node = h("input", {
      type: "number",
      id: `filter-${name}`,
      min: 0,
      value: browser.filters[name],
      placeholder: label,
      "aria-label": name === "from" ? "from step" : "to step",
      oninput: () => {
        browser.filters[name] = node.value;
        applyFilters();
      },
    });
    return node;
  };
  const text = h("input", {
    type: "search",
    id: "filter-text",
    value: browser.filters.text,
    placeholder: "text in sources, prompts, replies, answers …",
    "aria-label": "Text",
    oninput: () => {
      browser.filters.text = text.value;
      applyFilters();
    },
  });
  const tiers = [...TIERS, "none"].map((tier) => {
    const node = h("button", {
      type: "button",
      class: `tier tier-${tier.replace(".", "_")}`,
      "aria-pressed": browser.filters.tiers.has(tier) ? "true" : "false",
      text: tier === "none" ? "–" : tier,
      title: tier === "none" ? "without a grade" : `tier ${tier}`,
      "data-tier": tier,
      onclick: () => {
        const f = browser.filters.tiers;
        if (f.has(tier)) f.delete(tier);
        else f.add(tier);
        node.setAttribute("aria-pressed", f.has(tier) ? "true" : "false");
        applyFilters();
      },
    });
    return node;
  });
  const datasets = [...new Set(R.tasks.map((task) => task.dataset))];
  return h(
    "div",
    { class: "filters", role: "search", "aria-label": "Filter rollouts" },
    h("div", { class: "search" }, text),
    S.runs.length > 1 &&
      select(
        "run",
        "run",
        S.runs.map((_, i) => i),
        (i) => S.runs[i].name,
      ),
    select("part", "part", used(R.part)),
    h("label", {}, "steps", h("span", { class: "pair" }, step("from", "from"), step("to", "to"))),
    select("dataset", "dataset", datasets),
    select("status", "status", used(R.status)),
    select("error", "error", errors, (name) => `${name} (${counts.get(name)})`),
    h(
      "div",
      { class: "tiers", role: "group", "aria-label": "tiers" },
      h("span", { class: "label", text: "tier" }),
      h("span", {}, tiers),
    ),
    h(
      "button",
      {
        type: "button",
        class: "plain",
        id: "filter-reset",
        onclick: () => {
          browser.filters = noFilters();
          route();
        },
      },
      "reset",
    ),
  );
}
