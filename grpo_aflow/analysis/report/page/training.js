// Training: every figure of metrics.jsonl, the important ones in groups and any other on demand.
const RESOURCES = ["sampler", "executor", "learner", "publish", "gate"];

function tierCard() {
  const run = S.runs[state.focus];
  if (!run.metrics["reward/tier_1.0"]) return null;
  const names = ["1.0", "0.7", "0.4", "0.2", "0.0"];
  const shares = names.map((tier) => series(run, `reward/tier_${tier}`));
  const graded = run.steps.map((_, i) => shares.reduce((sum, values) => sum + values[i], 0)); // NaN: all were masked
  const layers = names.map((tier, i) => ({
    label: `tier ${tier}`,
    colour: `var(--tier-${tier.replace(".0", "").replace(".", "_")})`,
    values: smoothed(shares[i], state.smooth),
  }));
  layers.push({
    label: "not graded",
    colour: "var(--tier-none)",
    values: smoothed(
      graded.map((v) => 1 - v),
      state.smooth,
    ),
  });
  return card(
    "Tiers",
    S.runs.length > 1 ? `shares of the rollouts of ${run.name}` : "the share of rollouts whose grade has each tier",
    stackChart({ x: run.steps, stack: layers, y: [0, 1], format: "percent", label: "tiers" }),
  );
}

function perMetric(pattern, cut, title, note, options) {
  const names = metricNames(pattern);
  if (!names.length) return null;
  if (S.settings.length < 2)
    return card(
      title,
      note,
      figures(
        names.map((name) => [name, cut(name)]),
        { ...options, label: title },
      ),
    );
  return names.map((name) => card(`${title}: ${cut(name)}`, note, overlay(name, options)));
}

function errorCard() {
  const { steps, num, codes } = S.runs[state.focus].errors;
  const names = Object.keys(codes);
  if (!names.length) return steps.length ? card("Errors", null, empty("no workflow was refused, none failed")) : null;
  const share = (values) =>
    smoothed(
      values.map((v, i) => v / num[i]),
      state.smooth,
    );
  const layers = names.slice(0, 7).map((name, i) => ({ label: name, colour: colour(i), values: share(codes[name]) }));
  if (names.length > 7)
    layers.push({
      label: `${names.length - 7} more`,
      colour: "var(--tier-none)",
      values: share(steps.map((_, i) => names.slice(7).reduce((sum, name) => sum + codes[name][i], 0))),
    });
  return card(
    "Errors",
    "rollouts refused by code (E1xx syntax … E6xx domain) or failed, by reason; one may have several",
    stackChart({ x: steps, stack: layers, format: "percent", label: "errors" }),
  );
}

function operatorCard() {
  const run = S.runs[state.focus];
  const names = metricNames(/^operator\/.*_per_rollout$/).filter((name) => run.metrics[name]);
  if (!names.length) return null;
  const total = run.steps.map((_, i) => names.reduce((sum, name) => sum + (nan(run.metrics[name][i]) || 0), 0));
  const layers = names.map((name) => {
    const slot = name.slice(9, -12);
    return {
      label: slot,
      colour: operatorColour(slot),
      values: smoothed(
        series(run, name).map((v, i) => (v || 0) / (total[i] || 1)),
        state.smooth,
      ),
    };
  });
  layers.sort((a, b) => mean(b.values) - mean(a.values));
  return card(
    "Operators",
    "each one's share of all operator calls",
    stackChart({ x: run.steps, stack: layers, y: [0, 1], format: "percent", label: "operators" }),
  );
}

function timeCards() {
  const busy = RESOURCES.map((name, i) => [`time/${name}_busy_s`, name, colour(i)]);
  return [
    card(
      "Time of a step",
      "busy seconds of each resource; they overlap",
      figures([...busy, ["time/step_s", "the whole step", "var(--ink)", true]], {
        format: "seconds",
        label: "time of a step",
      }),
    ),
    card("Cost of a step", "what the executor's calls cost, cached or not", overlay("cost/usd", { format: "usd" })),
    card("Executor tokens", "of prompts and replies, per step", overlay("cost/tokens")),
    card("Rollouts per second", null, overlay("throughput/rollouts_per_s")),
  ];
}

const GROUPS = [
  [
    "Rewards and grades",
    () => [
      card("Mean reward", null, overlay("reward/mean")),
      tierCard(),
      perMetric(/^reward\/(math|qa|code)$/, (name) => name.slice(7), "Reward by domain", null, {}),
      perMetric(/^accuracy\/(?!exact$)/, (name) => name.slice(9), "Exact answers", "by domain", {
        format: "percent",
        y: [0, 1],
      }),
      perMetric(/^dataset\/.*\/exact$/, (name) => name.split("/")[1], "Exact answers by dataset", null, {
        format: "percent",
        y: [0, 1],
      }),
    ],
  ],
  [
    "Workflows",
    () => [
      card(
        "Validity",
        "of the step's rollouts",
        figures(
          [
            ["workflow/valid_rate", "valid"],
            ["workflow/repaired_rate", "repaired"],
            ["completion/truncated_rate", "cut off"],
            ["workflow/no_call_rate", "ask no operator"],
          ],
          { format: "percent", y: [0, 1], label: "validity" },
        ),
      ),
      errorCard(),
      operatorCard(),
      card(
        "Variety",
        "distinct sources as a share; entropy of operator sequences",
        figures(
          [
            ["workflow/distinct", "distinct sources"],
            ["workflow/pattern_entropy", "pattern entropy (nats)"],
          ],
          { label: "variety" },
        ),
      ),
      card("Length of a completion", "tokens", overlay("completion/mean_tokens")),
    ],
  ],
  ["Time and cost", timeCards],
  [
    "Sampler against learner",
    () => [
      card("Mismatch", "KL of sampler to learner (k3), nats", overlay("mismatch/kl_k3")),
      card("Largest difference", "of a token's log-probability, nats", overlay("mismatch/max_abs_logp")),
      card(
        "Effective sample size",
        "of the importance weights, as a share",
        overlay("mismatch/ess", { format: "percent" }),
      ),
      card(
        "Staleness",
        "age of the version that wrote a completion",
        figures(
          [
            ["staleness/mean", "mean"],
            ["staleness/max", "oldest"],
          ],
          { label: "staleness" },
        ),
      ),
    ],
  ],
  [
    "Learning",
    () => [
      card("Loss", null, overlay("loss/total")),
      card("KL to the reference", null, overlay("loss/kl")),
      card("Entropy", "of the next token, nats", overlay("policy/entropy")),
      card("Gradient norm", "before it is clipped", overlay("update/grad_norm")),
      card("Learning rate", null, overlay("update/learning_rate")),
      card(
        "Groups",
        "those without variance teach nothing",
        figures(
          [
            ["groups/num", "trained on"],
            ["groups/zero_variance", "without variance"],
            ["groups/masked", "masked"],
          ],
          { label: "groups" },
        ),
      ),
    ],
  ],
];

function anyFigure() {
  const names = Object.keys(S.metrics).sort();
  if (!names.length) return null;
  const place = h("div", {});
  const select = h(
    "select",
    { onchange: () => draw(), "aria-label": "Which figure" },
    names.map((name) => h("option", { value: name, text: name, selected: name === "workflow/distinct" })),
  );
  const draw = () => {
    const { unit, meaning } = S.metrics[select.value];
    place.replaceChildren(
      h("p", { class: "note", text: [meaning, unit && `(${unit})`].filter(Boolean).join(" ") }),
      overlay(select.value, { height: 240, width: 960 }),
    );
  };
  draw();
  return h(
    "section",
    { class: "card" },
    h("div", { class: "card-head spread" }, h("h3", { text: "Any figure" }), select),
    place,
  );
}

function smoothing() {
  const shown = h("output", { text: state.smooth });
  const slide = h("input", {
    type: "range",
    min: 1,
    max: Math.max(25, 2 * Math.floor(extent(S.runs.map((run) => run.steps.length))[1] / 40) + 1),
    step: 2,
    value: state.smooth,
    id: "smooth",
    oninput: () => {
      shown.textContent = slide.value;
    },
    onchange: () => {
      state.smooth = Number(slide.value);
      route();
      document.getElementById("smooth").focus();
    },
  });
  return h("label", { class: "smoothing" }, "smoothing, steps ", slide, shown);
}

function trainingView() {
  if (!S.runs.some((run) => run.steps.length)) return [empty("No training step is recorded here.")];
  const stacks =
    S.runs.length > 1 ? `Curves are of all runs; stacks and splits are of ${S.runs[state.focus].name}.` : null;
  return [
    h("div", { class: "bar" }, smoothing(), stacks && h("p", { class: "note", text: stacks })),
    GROUPS.map(([title, cards]) => {
      const drawn = cards()
        .flat()
        .filter((one) => one && !(one.querySelector(".empty") && one.textContent.includes("nothing to draw")));
      return drawn.length ? [heading(title), h("div", { class: "grid" }, drawn)] : null;
    }),
    heading("Everything else"),
    anyFigure(),
  ];
}
