// Rollout browser: filters over typed columns, a list that draws only the rows in sight, and the one that is chosen.
const ROW = 38;
const browser = { shown: null, chosen: -1, order: ["", 1], filters: null, search: null, nodes: null, spent: NaN };

function applyFilters() {
  const start = performance.now();
  browser.shown = matching();
  browser.spent = performance.now() - start;
  const { list, count } = browser.nodes;
  count.textContent = `${browser.shown.length.toLocaleString("en")} of ${R.n.toLocaleString("en")} rollouts`;
  count.title = `filtered in ${browser.spent.toFixed(1)} ms`;
  count.dataset.ms = browser.spent.toFixed(2);
  list.parentNode.scrollTop = 0;
  list.style.height = `${browser.shown.length * ROW}px`;
  list.parentNode.setAttribute("aria-rowcount", browser.shown.length);
  drawRows();
}

function drawRows() {
  const { list } = browser.nodes,
    view = list.parentNode;
  const first = Math.max(0, Math.floor(view.scrollTop / ROW) - 6),
    end = Math.min(browser.shown.length, Math.ceil((view.scrollTop + view.clientHeight) / ROW) + 6);
  const rows = [];
  for (let at = first; at < end; at++) rows.push(rowOf(at, browser.shown[at]));
  list.replaceChildren(...rows);
  const active = browser.shown.indexOf(browser.chosen);
  if (active >= 0) view.setAttribute("aria-activedescendant", `row-${browser.chosen}`);
  else view.removeAttribute("aria-activedescendant");
}

function rowOf(at, i) {
  const t = R,
    status = t.names[t.status[i]],
    task = t.tasks[t.task[i]];
  const middle =
    t.graph[i] >= 0
      ? graphLine(t.graphs[t.graph[i]])
      : h("span", {
          class: "muted",
          text: t.errors[i].map((e) => t.names[e]).join(", ") || t.names[t.reason[i]] || status,
        });
  return h(
    "div",
    {
      class: `row status-${status}${i === browser.chosen ? " chosen" : ""}`,
      role: "row",
      id: `row-${i}`,
      "aria-rowindex": at + 1,
      "aria-selected": i === browser.chosen ? "true" : "false",
      style: `top:${at * ROW}px`,
      onclick: () => choose(i),
    },
    h("span", { role: "gridcell", class: "num", text: t.step[i] < 0 ? "–" : t.step[i] }),
    h(
      "span",
      { role: "gridcell", class: "clip", title: task.id },
      h("b", { text: task.dataset }),
      h("small", { text: ` ${task.id.split("/").slice(-1)[0]} · ${t.member[i]}` }),
    ),
    h("span", { role: "gridcell", class: "clip" }, middle),
    h(
      "span",
      { role: "gridcell" },
      status === "completed"
        ? tierChip(t.tier[i])
        : h("span", {
            class: "tier tier-none",
            title: status,
            text: { invalid: "inv", truncated: "cut", failed: "fail", masked: "mask" }[status] || status,
          }),
    ),
    h("span", { role: "gridcell", class: "num", text: figure(t.reward[i], 2) }),
    h("span", {
      role: "gridcell",
      class: `num ${t.advantage[i] > 0 ? "up" : t.advantage[i] < 0 ? "down" : ""}`,
      text: signed(t.advantage[i]),
    }),
  );
}

const COLUMNS = [
  ["step", "step"],
  ["task", "task"],
  ["graph", "operators"],
  ["tier", "tier"],
  ["reward", "reward"],
  ["advantage", "advantage"],
];
function listHead() {
  const head = h("div", { class: "row head", role: "row" });
  const draw = () =>
    head.replaceChildren(
      ...COLUMNS.map(([name, label]) => {
        const on = browser.order[0] === name;
        return h(
          "span",
          { role: "columnheader", "aria-sort": on ? (browser.order[1] > 0 ? "ascending" : "descending") : "none" },
          h(
            "button",
            {
              type: "button",
              onclick: () => {
                browser.order = on && browser.order[1] < 0 ? ["", 1] : [name, on ? -1 : 1];
                draw();
                applyFilters();
              },
            },
            label,
            on ? (browser.order[1] > 0 ? " ↑" : " ↓") : "",
          ),
        );
      }),
    );
  draw();
  return head;
}

function choose(i, options = {}) {
  browser.chosen = i;
  history.replaceState(null, "", `#rollouts/${i}`);
  drawRows();
  const { detail, root, list } = browser.nodes;
  detail.replaceChildren(...detailView(i));
  detail.scrollTop = 0;
  root.classList.add("open");
  if (options.scroll) {
    const at = browser.shown.indexOf(i),
      view = list.parentNode;
    if (at >= 0 && (at * ROW < view.scrollTop || (at + 1) * ROW > view.scrollTop + view.clientHeight)) {
      view.scrollTop = at * ROW - view.clientHeight / 2;
      drawRows();
    }
  }
}

function move(by) {
  if (!browser.shown.length) return;
  const at = browser.shown.indexOf(browser.chosen);
  choose(browser.shown[Math.max(0, Math.min(browser.shown.length - 1, at < 0 ? 0 : at + by))], { scroll: true });
}

function rolloutsView() {
  if (!R) return [h("p", { class: "loading", text: "Unpacking the rollouts …" })];
  if (!R.n) return [notices(), empty("No rollout is recorded here (yet).")];
  browser.filters ||= noFilters();
  const list = h("div", { class: "rows", role: "rowgroup" }),
    count = h("p", { class: "count", role: "status" });
  const view = h(
    "div",
    {
      class: "list-body",
      role: "grid",
      tabindex: "0",
      "aria-label": "Rollouts; arrow keys choose",
      onscroll: () => drawRows(),
    },
    list,
  );
  const detail = h(
    "article",
    { class: "detail", "aria-label": "The chosen rollout", tabindex: "-1" },
    h(
      "div",
      { class: "hint" },
      h("p", { text: "Choose a rollout to see what the policy wrote, what it called and how it was graded." }),
      h(
        "p",
        {},
        h("kbd", { text: "↑" }),
        " ",
        h("kbd", { text: "↓" }),
        " choose · ",
        h("kbd", { text: "/" }),
        " search · ",
        h("kbd", { text: "Esc" }),
        " back to the list",
      ),
    ),
  );
  view.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: 12, PageUp: -12, Home: -1e9, End: 1e9 }[event.key];
    if (by !== undefined && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      move(by);
    }
    if (event.key === "Enter" && browser.chosen >= 0) detail.focus();
  });
  const root = h(
    "div",
    { class: "browser" },
    h("div", { class: "list" }, filterBar(), count, listHead(), view),
    detail,
  );
  browser.nodes = { list, count, detail, root };
  requestAnimationFrame(() => {
    applyFilters();
    if (browser.chosen >= 0 && browser.chosen < R.n) choose(browser.chosen, { scroll: true });
  });
  return [root];
}

function closeDetail() {
  browser.nodes.root.classList.remove("open");
  browser.nodes.list.parentNode.focus();
}
