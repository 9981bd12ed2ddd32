// One rollout: how it was graded, what the policy was asked and wrote, and its group's other members beside it.
const section = (title, note, ...children) =>
  h("section", { class: "part" }, h("h3", {}, title, note && h("small", { text: ` ${note}` })), ...children);
const pre = (text) => h("pre", { text: text === "" ? "(empty)" : text, class: text === "" ? "muted" : null });
const fold = (title, open, ...children) => h("details", { open }, h("summary", {}, title), ...children);
// What is only made when it is opened.
function lazyFold(title, make) {
  const node = fold(title, false);
  node.addEventListener("toggle", () => node.append(...[make()].flat(3)), { once: true });
  return node;
}
const textOf = (ref) => R.texts[ref];

function detailView(i) {
  const t = R,
    task = t.tasks[t.task[i]],
    status = t.names[t.status[i]],
    [repairs, findings, trace, terms] = t.details[i];
  const part = t.names[t.part[i]];
  return [
    h(
      "div",
      { class: "detail-head" },
      h("button", { type: "button", class: "back plain", onclick: closeDetail }, "← list"),
      h(
        "div",
        {},
        h("h2", { text: task.id }),
        h(
          "p",
          { class: "note" },
          [
            S.runs.length > 1 && S.runs[t.run[i]].name,
            part,
            t.step[i] >= 0 && `step ${t.step[i]}`,
            `member ${t.member[i]}`,
            `policy version ${t.version[i]}`,
            task.domain,
          ]
            .filter(Boolean)
            .join(" · "),
        ),
      ),
      h("div", { class: "chips" }, pill(status), status === "completed" && tierChip(t.tier[i])),
    ),
    verdict(i, task, terms),
    neighboursView(i),
    section(
      "Workflow",
      written(i),
      workflowView(
        i,
        repairs.map((name) => t.names[name]),
        findings.map(([code, line, message]) => ({ code, line, message: textOf(message) })),
      ),
    ),
    timeline(trace),
    traceView(trace),
    taskView(i, task),
  ];
}

const written = (i) =>
  [R.length[i] >= 0 && `${R.length[i]} tokens`, R.graph[i] >= 0 && `${R.graphs[R.graph[i]].operators.length} operators`]
    .filter(Boolean)
    .join(", ");

function verdict(i, task, terms) {
  const t = R,
    exact = t.exact[i],
    golds = task.answers ? task.answers.map(textOf) : null;
  const gold =
    golds === null
      ? h("p", { class: "muted", text: "not known here" })
      : pre(golds.map((text) => (text === "" ? "(unanswerable)" : text)).join("\n"));
  const facts = [
    ["reward", figure(t.reward[i])],
    ["advantage", signed(t.advantage[i])],
    ["score", figure(t.score[i])],
    ["rule", t.names[t.rule[i]] || "–"],
    ["read as", textOf(t.read[i]) || "–"],
    ["calls", t.calls[i]],
    ["executor tokens", figure(t.tokens[i])],
    ["cost", usd(t.cost[i])],
    ...Object.entries(terms).map(([name, value]) => [`term: ${name}`, figure(value)]),
  ];
  if (t.names[t.reason[i]]) facts.unshift(["reason", t.names[t.reason[i]]]);
  return h(
    "section",
    { class: "part verdict" },
    h(
      "div",
      { class: "pair-of" },
      h(
        "div",
        { class: exact === 1 ? "side right" : Number.isFinite(exact) ? "side wrong" : "side" },
        h(
          "h4",
          {},
          "Answer ",
          Number.isFinite(exact) && h("span", { class: "mark-of", text: exact ? "exact ✓" : "not exact ✗" }),
        ),
        pre(textOf(t.answer[i])),
      ),
      h("div", { class: "side" }, h("h4", { text: "Gold" }), gold),
    ),
    h(
      "dl",
      { class: "short" },
      facts.map(([name, value]) =>
        h("div", {}, h("dt", { text: name }), h("dd", { text: value, title: String(value) })),
      ),
    ),
  );
}

function workflowView(i, repairs, findings) {
  const t = R,
    before = textOf(t.written[i]),
    after = textOf(t.source[i]),
    whole = textOf(t.text[i]);
  const parts = [];
  if (t.graph[i] >= 0) parts.push(h("div", { class: "scroll graph-box" }, drawGraph(t.graphs[t.graph[i]])));
  if (repairs.length)
    parts.push(
      h(
        "p",
        { class: "note" },
        "Repaired before it ran: ",
        repairs.map((name) => h("span", { class: "pill", text: name.replace(/_/g, " ") })),
      ),
      repairView(before, after),
    );
  else parts.push(sourceView(after || before, findings));
  if (whole.trim() !== (after || before).trim() && whole.trim() !== before.trim())
    parts.push(fold("The whole completion", false, pre(whole)));
  return parts;
}

function taskView(i, task) {
  const parts = [];
  if (task.problem !== undefined) {
    parts.push(fold("Problem", true, pre(textOf(task.problem))));
    if (task.tests.length)
      parts.push(fold(`Tests (${task.tests.length})`, false, pre(task.tests.map(textOf).join("\n\n"))));
    const asked = !/^(baseline |evaluation best_reference)/.test(R.names[R.part[i]]);
    if (asked && task.prompt.length)
      parts.push(
        fold(
          h(
            "span",
            {},
            "Prompt of the policy",
            R.prompt_length[i] >= 0 && h("small", { text: ` ${R.prompt_length[i]} tokens` }),
          ),
          false,
          messagesView(task.prompt),
        ),
      );
    else if (asked)
      parts.push(
        h("p", {
          class: "note",
          text: "The policy's prompt cannot be made any more: this run's prompt is not known to this version.",
        }),
      );
  } else
    parts.push(
      h("p", {
        class: "note",
        text: "This task cannot be found any more, so neither problem nor gold nor prompt is shown.",
      }),
    );
  return section("Task", task.entry_point ? `function ${task.entry_point}` : null, parts);
}

const messagesView = (messages) =>
  h(
    "div",
    { class: "messages" },
    messages.map(([role, text]) => h("div", { class: `message ${role}` }, h("b", { text: role }), pre(textOf(text)))),
  );

// The group's members side by side: what a better and a worse reward was given for.
function neighboursView(i) {
  const t = R,
    members = t.neighbours.get(groupKey(t, i));
  if (members.length < 2) return null;
  const most = Math.max(1e-9, ...members.map((j) => Math.abs(t.advantage[j] || 0)));
  const cards = members.map((j) => {
    const status = t.names[t.status[j]],
      a = t.advantage[j];
    const bar = Number.isFinite(a)
      ? h(
          "span",
          { class: "balance", role: "presentation" },
          h("i", { class: a >= 0 ? "plus" : "minus", style: `width:${(50 * Math.abs(a)) / most}%` }),
        )
      : null;
    return h(
      "button",
      {
        type: "button",
        class: `neighbour${j === i ? " chosen" : ""}`,
        "aria-current": j === i ? "true" : null,
        onclick: () => choose(j, { scroll: true }),
      },
      h(
        "span",
        { class: "neighbour-head" },
        h("b", { text: `#${t.member[j]}` }),
        status === "completed" ? tierChip(t.tier[j]) : pill(status),
        h("span", { class: "num", text: Number.isFinite(a) ? signed(a) : figure(t.reward[j], 2) }),
      ),
      bar,
      t.graph[j] >= 0
        ? graphLine(t.graphs[t.graph[j]])
        : h("span", { class: "muted", text: t.errors[j].map((e) => t.names[e]).join(", ") || t.names[t.reason[j]] }),
      h("span", { class: "clip answer", text: textOf(t.answer[j]) || "no answer" }),
    );
  });
  const sources = lazyFold("Sources side by side", () =>
    h(
      "div",
      { class: "side-by-side" },
      members.map((j) =>
        h(
          "div",
          { class: j === i ? "chosen" : null },
          h(
            "h4",
            {},
            `#${t.member[j]} `,
            h("small", { text: `reward ${figure(t.reward[j], 2)}, advantage ${signed(t.advantage[j])}` }),
          ),
          sourceView(
            textOf(t.source[j]) || textOf(t.written[j]),
            t.details[j][1].map(([code, line, message]) => ({ code, line, message: textOf(message) })),
          ),
        ),
      ),
    ),
  );
  const strip = h("div", { class: "neighbours", role: "group", "aria-label": "members of the group" }, cards);
  requestAnimationFrame(() => {
    const own = strip.querySelector(".chosen");
    if (own) strip.scrollLeft = own.offsetLeft - strip.clientWidth / 2 + own.clientWidth / 2;
  });
  return section("Group", `${members.length} rollouts of the same task; bars are advantages`, strip, sources);
}
