// Workflows: the most frequent operator graphs of each domain, first against last.
const span = ([first, end]) => (first === end ? `step ${first}` : `steps ${first} – ${end}`);

function shareCard(one, total, before) {
  const share = one.count / total;
  const change = before === null ? null : share - before;
  return h(
    "article",
    { class: "share" },
    h(
      "div",
      { class: "share-head" },
      h("b", { text: percent(share) }),
      h("div", { class: "meter", role: "presentation" }, h("i", { style: `width:${100 * share}%` })),
      change !== null &&
        h("span", {
          class: change > 0.005 ? "up" : change < -0.005 ? "down" : "even",
          text:
            before === 0
              ? "new among these"
              : Math.abs(change) <= 0.005
                ? "as at first"
                : `${signed(100 * change, 0)} points`,
        }),
    ),
    h("div", { class: "scroll" }, drawGraph(one.graph)),
    h("details", {}, h("summary", { text: `one of ${one.count} workflows` }), sourceView(one.source)),
  );
}

function changeView(change) {
  const shareOf = (list, total, key) => {
    const found = list.find((one) => one.graph.key === key);
    return found ? found.count / total : 0;
  };
  const side = (title, steps, list, total, before) =>
    h(
      "div",
      {},
      h("h4", {}, title, h("small", { text: ` ${span(steps)} · ${total} valid workflows` })),
      list.length
        ? list.map((one) => shareCard(one, total, before ? before(one.graph.key) : null))
        : empty("no valid workflow"),
    );
  return h(
    "section",
    { class: "card" },
    h("div", { class: "card-head" }, h("h3", { text: change.domain })),
    h(
      "div",
      { class: "versus" },
      side("First", change.first_steps, change.first, change.num_first, null),
      side("Last", change.last_steps, change.last, change.num_last, (key) =>
        shareOf(change.first, change.num_first, key),
      ),
    ),
  );
}

function workflowsView() {
  const run = S.runs[state.focus];
  if (!run.graphs.length) return [empty("No training rollouts are recorded here.")];
  return [
    heading(
      "What the policy composes",
      "the most frequent operator graphs of each domain, at the beginning and at the end; ×n is a call in a loop",
    ),
    run.graphs.map(changeView),
  ];
}
