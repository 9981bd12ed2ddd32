// Overview: what is missing, the figures that matter, and the runs side by side.
function notices() {
  const told = [
    ...S.notices,
    ...S.runs.flatMap((run) => run.notices.map((text) => (S.runs.length > 1 ? `${run.name}: ${text}` : text))),
  ];
  if (!told.length) return null;
  return h(
    "aside",
    { class: "notices", "aria-label": "What is missing" },
    h("strong", { text: told.length === 1 ? "One thing to know" : `${told.length} things to know` }),
    h(
      "ul",
      {},
      told.map((text) => h("li", { text })),
    ),
  );
}

const tile = (name, value, note) =>
  h(
    "div",
    { class: "tile" },
    h("span", { class: "tile-name", text: name }),
    h("span", { class: "tile-value" }, value),
    note && h("span", { class: "tile-note" }, note),
  );

const policySteps = (run) =>
  Object.entries(run.evaluations).map(([name, record]) => ({
    name,
    record,
    step: /^step_\d+$/.test(name) ? Number(name.slice(5)) : NaN,
  }));
const byStep = (run) =>
  policySteps(run)
    .filter((one) => Number.isFinite(one.step))
    .sort((a, b) => a.step - b.step);

function tiles(run) {
  const reward = series(run, "reward/mean"),
    evaluated = byStep(run);
  const spend = series(run, "cost/usd")
    .filter(Number.isFinite)
    .reduce((a, b) => a + b, 0);
  const seconds = series(run, "time/step_s")
    .filter(Number.isFinite)
    .reduce((a, b) => a + b, 0);
  const planned = Number(run.config["schedule.num_steps"]);
  const made = [
    tile(
      "status",
      pill(run.status),
      run.manifest.start ? `begun ${String(run.manifest.start).slice(0, 16).replace("T", " ")}` : null,
    ),
  ];
  if (run.steps.length) {
    made.push(
      tile(
        "steps",
        h("span", {}, figure(last(run.steps)), h("small", { text: Number.isFinite(planned) ? ` of ${planned}` : "" })),
        duration(seconds) + " of steps",
      ),
    );
    made.push(
      tile(
        "mean reward",
        figure(mean(reward.slice(-state.smooth))),
        `${figure(mean(reward.slice(0, state.smooth)))} at first`,
      ),
    );
  }
  if (evaluated.length) {
    const [first, end] = [evaluated[0].record, evaluated[evaluated.length - 1].record];
    made.push(
      tile(
        "held-out accuracy",
        percent(end.accuracy),
        evaluated.length > 1
          ? `${percent(first.accuracy)} before · 95 %: ${percent(end.accuracy_low)} – ${percent(end.accuracy_high)}`
          : `95 %: ${percent(end.accuracy_low)} – ${percent(end.accuracy_high)}`,
      ),
    );
  } else if (run.evaluations.evaluation) {
    const record = run.evaluations.evaluation;
    made.push(
      tile(
        "accuracy",
        percent(record.accuracy),
        `95 %: ${percent(record.accuracy_low)} – ${percent(record.accuracy_high)} · ${record.num_tasks} tasks`,
      ),
    );
  }
  if (run.metrics["workflow/valid_rate"])
    made.push(tile("valid workflows", percent(last(series(run, "workflow/valid_rate"))), "in the last step"));
  if (run.steps.length)
    made.push(
      tile(
        "executor",
        usd(spend),
        `${figure(
          series(run, "cost/calls")
            .filter(Number.isFinite)
            .reduce((a, b) => a + b, 0),
        )} calls in training`,
      ),
    );
  made.push(tile("rollouts", figure(run.num_rollouts), h("a", { href: "#rollouts", text: "look at them" })));
  return h("div", { class: "tiles" }, made);
}

// One run: with its 95 % interval and the best reference. Several: a curve a setting, from the least to the greatest seed.
function heldOut(run) {
  const note = "exact answers on tasks that are not trained on";
  const seeds = S.settings.some((setting) => setting.runs.length > 1);
  if (S.runs.length > 1)
    return heldOutOverlay(seeds ? `${note}; bands are no intervals: from the least to the greatest seed` : note);
  const evaluated = byStep(run);
  if (!evaluated.length) return null;
  const x = evaluated.map((one) => one.step);
  const pick = (name) => evaluated.map((one) => nan(one.record[name]));
  const policy = { values: pick("accuracy"), low: pick("accuracy_low"), high: pick("accuracy_high") };
  const lines = [{ label: "policy, 95 % interval", colour: colour(0), ...policy }];
  const best = run.evaluations.best_reference;
  if (best)
    lines.push({
      label: "best reference workflows",
      colour: colour(3),
      values: x.map(() => best.accuracy),
      dash: true,
    });
  const spec = { x, lines, format: "percent", y: [0, 1], label: "held-out accuracy", dots: true };
  return card("Held-out accuracy", note, lineChart(spec));
}

function heldOutOverlay(note) {
  const all = S.runs.map(byStep);
  const x = [...new Set(all.flat().map((one) => one.step))].sort((a, b) => a - b);
  if (!x.length) return null;
  const at = (place, step) => (all[place].find((one) => one.step === step) || { record: {} }).record.accuracy;
  const lines = S.settings.map((setting, i) => {
    const across = (f) =>
      x.map((step) => {
        const known = setting.runs.map((place) => at(place, step)).filter(Number.isFinite);
        return known.length ? f(known) : NaN;
      });
    const spread =
      setting.runs.length > 1 ? { low: across((v) => Math.min(...v)), high: across((v) => Math.max(...v)) } : {};
    return { label: setting.label, colour: colour(i), values: across(mean), dash: i >= PALETTE, ...spread };
  });
  const spec = { x, lines, format: "percent", y: [0, 1], label: "held-out accuracy", dots: true };
  return card("Held-out accuracy", note, lineChart(spec));
}

function runTable() {
  if (S.runs.length < 2) return null;
  const evaluated = (run) => {
    const all = byStep(run);
    return all.length ? all[all.length - 1].record.accuracy : nan((run.evaluations.evaluation || {}).accuracy);
  };
  const rows = S.settings.flatMap((setting, i) =>
    setting.runs.map((place) => {
      const run = S.runs[place];
      return h(
        "tr",
        {},
        h(
          "th",
          { scope: "row" },
          h("i", { class: "swatch", style: `--own:${colour(i)}` }),
          h("a", { href: "#overview", onclick: () => focusOn(place), text: run.name }),
        ),
        h("td", { text: setting.label }),
        h("td", { text: run.config.seed || "–" }),
        h("td", {}, pill(run.status)),
        h("td", { class: "num", text: figure(last(run.steps)) }),
        h("td", { class: "num", text: figure(mean(series(run, "reward/mean").slice(-state.smooth))) }),
        h("td", { class: "num", text: percent(evaluated(run)) }),
      );
    }),
  );
  const heads = ["run", "setting", "seed", "status", "steps", "reward, last steps", "accuracy"];
  return card(
    "Runs",
    "a colour is a setting; its runs differ in their seed alone",
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
            heads.map((text, i) => h("th", { scope: "col", class: i > 3 ? "num" : null, text })),
          ),
        ),
        h("tbody", {}, rows),
      ),
    ),
  );
}

function overviewView() {
  const run = S.runs[state.focus];
  const trained = S.runs.some((one) => one.steps.length);
  return [
    notices(),
    runTable(),
    S.runs.length > 1 && heading(run.name),
    tiles(run),
    h(
      "div",
      { class: "grid two" },
      heldOut(run),
      trained &&
        card(
          "Mean reward",
          S.settings.some((setting) => setting.runs.length > 1)
            ? "mean over the seeds, and from the least to the greatest"
            : `smoothed over ${state.smooth} steps; every step faint`,
          overlay("reward/mean"),
        ),
      trained && tierCard(),
      trained &&
        card(
          "Exact answers by domain",
          S.runs.length > 1 ? `of ${run.name}` : null,
          figures(
            metricNames(/^accuracy\/(?!exact$)/).map((name) => [name, name.slice(9)]),
            { format: "percent", y: [0, 1], label: "exact answers by domain" },
          ),
        ),
      !trained && evaluationCards(run),
    ),
    !trained && run.tables.filter((table) => /gain/.test(table.title)).map(tableCard),
  ];
}
