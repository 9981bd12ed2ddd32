// Operator calls: on a time axis, then one by one with their prompts and replies.
function timeline(trace) {
  const calls = trace.flatMap((entry) => entry.calls.map((call) => ({ ...call, slot: entry.slot })));
  if (!calls.length) return null;
  let end = 0;
  const placed = calls.map((call) => {
    const start = call.start === null ? end : call.start;
    end = Math.max(end, start + call.latency);
    return { ...call, start, cached: call.start === null };
  });
  const total = Math.max(end, 1e-3),
    width = 640,
    left = 160,
    right = 190,
    rowHeight = 26,
    height = placed.length * rowHeight + 26;
  const at = (v) => left + (v / total) * (width - left - right);
  const rows = placed.map((call, i) => {
    const y = 6 + i * rowHeight,
      tokens = `${call.prompt_tokens} → ${call.completion_tokens} tok`;
    const note = [tokens, usd(call.cost), call.cached ? "cached" : duration(call.latency)].join(" · ");
    return s(
      "g",
      { class: call.outcome === "ok" || call.cached ? "call" : "call bad" },
      s(
        "title",
        {},
        `${call.slot}: ${note}${call.reason ? `, ${call.reason}` : ""}${call.attempts > 1 ? `, ${call.attempts} attempts` : ""}`,
      ),
      s("text", { x: left - 10, y: y + 15, class: "row-name end" }, call.slot),
      s("rect", {
        x: at(call.start),
        y: y + 3,
        width: Math.max(3, at(call.start + call.latency) - at(call.start)),
        height: 15,
        rx: 4,
        class: call.cached ? "span cached" : "span",
        style: `--own:${operatorColour(call.slot)}`,
      }),
      s(
        "text",
        { x: Math.min(at(call.start + call.latency) + 8, width - right + 8), y: y + 15, class: "row-note" },
        note,
      ),
    );
  });
  const marks = ticks(0, total, 4).map((v) => [
    s("line", { x1: at(v), x2: at(v), y1: 2, y2: height - 22, class: "grid" }),
    s("text", { x: at(v), y: height - 6, class: "tick middle" }, duration(v)),
  ]);
  const spent = placed.reduce((sum, call) => sum + call.cost, 0),
    tokens = placed.reduce((sum, call) => sum + call.prompt_tokens + call.completion_tokens, 0);
  return section(
    "Time",
    `${placed.length} executor calls in ${duration(total)}, ${figure(tokens)} tokens, ${usd(spent)}`,
    h(
      "div",
      { class: "scroll" },
      s(
        "svg",
        {
          viewBox: `0 0 ${width} ${height}`,
          class: "chart timeline",
          role: "img",
          "aria-label": `${placed.length} executor calls over ${duration(total)}: ${placed.map((call) => `${call.slot} from ${duration(call.start)}, ${duration(call.latency)}`).join("; ")}`,
        },
        marks,
        rows,
      ),
    ),
  );
}

function traceView(trace) {
  if (!trace.length) return null;
  return section("Trace", `${trace.length} operator calls`, h("ol", { class: "trace" }, trace.map(entryView)));
}

function entryView(entry, place) {
  const error = textOf(entry.error),
    thinking = textOf(entry.thinking);
  const outcome = entry.result
    .map(([name, ref]) => `${name}: ${textOf(ref)}`)
    .join(" · ")
    .replace(/\s+/g, " ");
  const facts = [
    entry.calls.length > 1 && `${entry.calls.length} calls`,
    entry.prompt_tokens + entry.completion_tokens > 0 && `${entry.prompt_tokens} → ${entry.completion_tokens} tokens`,
    entry.cost > 0 && usd(entry.cost),
    entry.cached ? "cached" : entry.latency > 0 && duration(entry.latency),
    entry.unparsed > 0 && `${entry.unparsed} unparsed`,
  ]
    .filter(Boolean)
    .join(" · ");
  return h(
    "li",
    {},
    h(
      "details",
      {},
      h(
        "summary",
        {},
        h("span", { class: "dot", style: `--own:${operatorColour(entry.slot)}`, text: entry.slot }),
        h("span", { class: error ? "clip outcome bad-text" : "clip outcome", text: error || outcome }),
        h("small", { text: facts }),
      ),
      error && h("p", { class: "finding", text: error }),
      h(
        "div",
        { class: "pair-of" },
        h("div", { class: "side" }, h("h4", { text: "Arguments" }), valuesView(entry.arguments)),
        h("div", { class: "side" }, h("h4", { text: "Result" }), valuesView(entry.result)),
      ),
      thinking && fold("Thinking", false, pre(thinking)),
      entry.calls.map((call, i) => callView(call, i, entry.calls.length)),
    ),
  );
}

const valuesView = (values) =>
  values.length
    ? values.map(([name, ref]) => h("div", { class: "value" }, h("b", { text: name }), pre(textOf(ref))))
    : h("p", { class: "muted", text: "none" });

function callView(call, place, count) {
  const thinking = textOf(call.thinking),
    reply = textOf(call.reply);
  const title = count > 1 ? `Call ${place + 1} of ${count}` : "Prompt and reply";
  const told = [call.attempts > 1 && `${call.attempts} attempts`, call.reason].filter(Boolean).join(", ");
  return h(
    "div",
    { class: "exchange" },
    h("h4", {}, title, told && h("small", { text: ` ${told}` })),
    call.messages.length ? messagesView(call.messages) : h("p", { class: "note", text: "the prompt was not kept" }),
    thinking && fold("Thinking", false, pre(thinking)),
    h(
      "div",
      { class: "message reply" },
      h("b", { text: "reply" }),
      reply || call.outcome === "ok"
        ? pre(reply)
        : h("p", { class: "muted", text: `none: ${call.outcome}${call.reason ? `, ${call.reason}` : ""}` }),
    ),
  );
}
