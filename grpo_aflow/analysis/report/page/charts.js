// Charts: lines with bands, and stacked areas, as SVG. A chart is read by mouse and by the arrow keys.
const FRAME = { left: 52, right: 20, top: 10, bottom: 26 };

// Round values within a range: as few as at least three of them allow.
function ticks(low, high, count) {
  const least = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= least * 0.999);
  const first = Math.ceil(low / step - 1e-9),
    number = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: number }, (_, i) => +((first + i) * step).toPrecision(12));
}

// The least and the greatest number; a long list is more arguments than Math.min takes.
function extent(values) {
  let low = Infinity,
    high = -Infinity;
  for (const v of values)
    if (Number.isFinite(v)) {
      if (v < low) low = v;
      if (v > high) high = v;
    }
  return [low, high];
}

// How the values of an axis are written, so that neighbours differ.
function axis(values, format) {
  const step = values.length > 1 ? values[1] - values[0] : 1;
  const digits = (unit) =>
    Math.min(
      8,
      Math.max(
        0,
        Math.ceil(-Math.log10(step * unit) - 1e-9) +
          (/[1-9]{2}/.test((step * unit).toPrecision(2).replace(/[.0]/g, "")) ? 1 : 0),
      ),
    );
  if (format === "percent") return (v) => `${(100 * v).toFixed(digits(100))} %`;
  if (format === "usd") return (v) => (v === 0 ? "$0" : `$${v.toFixed(Math.max(2, digits(1)))}`);
  if (format === "seconds")
    return (v) => (v === 0 ? "0" : step >= 1 && v < 600 ? `${v.toFixed(digits(1))} s` : duration(v));
  return (v) =>
    v === 0 ? "0" : step < 1e-4 ? v.toExponential(1) : step >= 1 ? v.toLocaleString("en") : v.toFixed(digits(1));
}

function range(values, given) {
  if (given) return given;
  let [low, high] = extent(values);
  if (low > high) return [0, 1];
  if (low === 0 && high === 0) return [0, 1];
  if (low >= 0 && low < 0.6 * high) low = 0;
  if (high - low < 1e-6 * Math.abs(high)) {
    low -= Math.abs(low) * 0.1;
    high += Math.abs(high) * 0.1;
  }
  return [low, high + (high - low) * 0.05];
}

const write = (format) =>
  format === "percent" ? percent : format === "usd" ? usd : format === "seconds" ? duration : (v) => figure(v);

// spec: {x, lines: [{label, colour, values, faint?, low?, high?, dash?, unlisted?}], y?, format?, height?, label, xLabel?}
function lineChart(spec) {
  return plot(
    spec,
    (spec.lines || []).flatMap((line) => [line.values, line.low || [], line.high || [], line.faint || []].flat()),
    (frame) => {
      const parts = [];
      for (const line of spec.lines) {
        if (line.low)
          parts.push(s("path", { d: area(frame, spec.x, line.low, line.high), fill: line.colour, class: "band" }));
        if (line.faint)
          parts.push(s("path", { d: path(frame, spec.x, line.faint), stroke: line.colour, class: "faint" }));
      }
      for (const line of spec.lines) {
        parts.push(
          s("path", {
            d: path(frame, spec.x, line.values),
            stroke: line.colour,
            class: "line",
            "stroke-dasharray": line.dash ? "5 4" : null,
          }),
        );
        if (spec.dots || line.values.filter(Number.isFinite).length < 2) {
          line.values.forEach(
            (v, i) =>
              Number.isFinite(v) &&
              parts.push(s("circle", { cx: frame.x(spec.x[i]), cy: frame.y(v), r: 3.5, fill: line.colour })),
          );
        }
      }
      return parts;
    },
  );
}

// spec: {x, stack: [{label, colour, values}], format?, top?}: areas upon each other, the first at the bottom.
function stackChart(spec) {
  const sums = spec.x.map(() => 0);
  const layers = spec.stack.map((layer) => {
    const low = [...sums];
    layer.values.forEach((v, i) => {
      sums[i] += Number.isFinite(v) ? v : 0;
    });
    return { ...layer, low, high: [...sums] };
  });
  const dense = spec.x.length > 150 ? "layer dense" : "layer"; // or the lines between would hide thin layers
  const y = spec.y || [0, Math.max(extent(sums)[1], 1e-9) * 1.02];
  return plot({ ...spec, y, lines: spec.stack }, [], (frame) =>
    layers.map((layer) => {
      const x = spec.x.length === 1 ? [spec.x[0] - 0.5, spec.x[0] + 0.5] : spec.x;
      const twice = (values) => (spec.x.length === 1 ? [values[0], values[0]] : values);
      return s("path", { d: area(frame, x, twice(layer.low), twice(layer.high)), fill: layer.colour, class: dense });
    }),
  );
}

function path(frame, x, values) {
  let made = "",
    pen = false;
  values.forEach((v, i) => {
    if (!Number.isFinite(v)) {
      pen = false;
      return;
    }
    made += `${pen ? "L" : "M"}${frame.x(x[i]).toFixed(1)},${frame.y(v).toFixed(1)}`;
    pen = true;
  });
  return made;
}

function area(frame, x, low, high) {
  const known = x.map((_, i) => i).filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
  const at = (i, v) => `${frame.x(x[i]).toFixed(1)},${frame.y(v[i]).toFixed(1)}`;
  return known.length
    ? `M${known.map((i) => at(i, high)).join("L")}L${known
        .reverse()
        .map((i) => at(i, low))
        .join("L")}Z`
    : "";
}

// A chart is drawn for the width that it has, so that its letters stay as they are.
function plot(spec, values, draw) {
  if (!spec.x.some(Number.isFinite) || !spec.lines.length) return empty("nothing to draw yet");
  const body = h("div", { class: "plot-body" });
  let drawn = 0;
  const fit = (width) => {
    if (Math.abs(width - drawn) > 4) {
      drawn = width;
      plotInto(body, spec, values, draw, width);
    }
  };
  fit(spec.width || 460);
  new ResizeObserver(([entry]) => entry.contentRect.width > 40 && fit(Math.round(entry.contentRect.width))).observe(
    body,
  );
  return h("figure", { class: "plot" }, body, spec.legend === false ? null : legend(spec.lines));
}

function plotInto(body, spec, values, draw, width) {
  const height = spec.height || Math.round(Math.min(270, Math.max(190, width * 0.44)));
  const y = range(values, spec.y);
  let [x0, x1] = extent(spec.x);
  if (x0 === x1) {
    x0 -= 0.5;
    x1 += 0.5;
  }
  const frame = {
    x: (v) => FRAME.left + ((v - x0) / (x1 - x0)) * (width - FRAME.left - FRAME.right),
    y: (v) =>
      height -
      FRAME.bottom -
      ((Math.min(Math.max(v, y[0]), y[1]) - y[0]) / (y[1] - y[0])) * (height - FRAME.top - FRAME.bottom),
  };
  const format = write(spec.format),
    levels = ticks(y[0], y[1], 7),
    level = axis(levels, spec.format);
  const grid = levels.map((v) => [
    s("line", { x1: FRAME.left, x2: width - FRAME.right, y1: frame.y(v), y2: frame.y(v), class: "grid" }),
    s("text", { x: FRAME.left - 7, y: frame.y(v) + 4, class: "tick end" }, level(v)),
  ]);
  const marks = ticks(x0, x1, 6)
    .filter((v) => Number.isInteger(v))
    .map((v) => s("text", { x: frame.x(v), y: height - 8, class: "tick middle" }, figure(v)));
  const cursor = s("line", { y1: FRAME.top, y2: height - FRAME.bottom, class: "cursor", visibility: "hidden" });
  const image = s(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      class: "chart",
      role: "img",
      tabindex: "0",
      "aria-label": described(spec, format),
    },
    grid,
    marks,
    draw(frame),
    cursor,
  );
  const tip = h("div", { class: "tip", hidden: true });
  body.replaceChildren(image, tip);
  reading(image, tip, cursor, spec, frame, format, width);
}

const legend = (lines) =>
  h(
    "figcaption",
    { class: "legend" },
    lines
      .filter((line) => !line.unlisted)
      .map((line) =>
        h(
          "span",
          {},
          h("i", { class: line.dash ? "swatch dash" : "swatch", style: `--own:${line.colour}` }),
          line.label,
        ),
      ),
  );

function described(spec, format) {
  const ends = spec.lines
    .filter((line) => !line.unlisted)
    .slice(0, 8)
    .map((line) => {
      const known = line.values.filter(Number.isFinite);
      return `${line.label} from ${format(known[0])} to ${format(known[known.length - 1])}`;
    });
  return `${spec.label || "chart"}: ${ends.join("; ")}. Arrow keys read the values.`;
}

// The nearest step's values beside the pointer; arrow keys move from step to step.
function reading(image, tip, cursor, spec, frame, format, width) {
  let place = -1;
  const show = (i, spoken) => {
    place = Math.max(0, Math.min(spec.x.length - 1, i));
    const at = frame.x(spec.x[place]);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.setAttribute("visibility", "visible");
    const lines = spec.lines.filter((line) => !line.unlisted && Number.isFinite(line.values[place]));
    const rows = (spec.stack ? [...lines].reverse() : lines).map((line) =>
      h(
        "div",
        {},
        h("i", { class: "swatch", style: `--own:${line.colour}` }),
        h("span", { text: line.label }),
        h("b", {
          text:
            format(line.values[place]) +
            (line.low ? ` (${format(line.low[place])} – ${format(line.high[place])})` : ""),
        }),
      ),
    );
    tip.replaceChildren(h("strong", { text: `${spec.xLabel || "step"} ${figure(spec.x[place])}` }), ...rows);
    tip.hidden = false;
    const right = at > width / 2;
    tip.style.left = right ? "auto" : `${(100 * at) / width + 2}%`;
    tip.style.right = right ? `${100 - (100 * at) / width + 2}%` : "auto";
    if (spoken) say(tip.innerText.replace(/\n+/g, ", "));
  };
  const hide = () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };
  image.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    let best = 0;
    spec.x.forEach((v, i) => {
      if (Math.abs(frame.x(v) - at) < Math.abs(frame.x(spec.x[best]) - at)) best = i;
    });
    show(best, false);
  });
  image.addEventListener("pointerleave", hide);
  image.addEventListener("blur", hide);
  image.addEventListener("keydown", (event) => {
    const end = spec.x.length - 1;
    const to = { ArrowLeft: place < 0 ? end : place - 1, ArrowRight: place + 1, Home: 0, End: end }[event.key];
    if (to === undefined) {
      if (event.key === "Escape") hide();
      return;
    }
    event.preventDefault();
    show(to, true);
  });
}

// One figure of all runs: a curve a setting; of several seeds their mean with the spread, of one the raw values faint.
function overlay(name, options = {}) {
  const runs = S.runs.filter((run) => run.metrics[name]);
  const x = [...new Set(runs.flatMap((run) => run.steps))].filter(Number.isFinite).sort((a, b) => a - b);
  const onto = (run) => {
    const at = new Map(run.steps.map((step, i) => [step, i]));
    const values = series(run, name);
    return x.map((step) => (at.has(step) ? nan(values[at.get(step)]) : NaN));
  };
  const lines = S.settings
    .map((setting, i) => {
      const own = setting.runs
        .map((place) => S.runs[place])
        .filter((run) => run.metrics[name])
        .map(onto);
      if (!own.length) return null;
      const across = (f) =>
        x.map((_, k) => {
          const known = own.map((values) => values[k]).filter(Number.isFinite);
          return known.length ? f(known) : NaN;
        });
      const centre = smoothed(across(mean), state.smooth);
      const line = { label: setting.label, colour: colour(i), values: centre, dash: i >= PALETTE };
      if (own.length === 1) return { ...line, faint: own[0] };
      return {
        ...line,
        label:
          setting.runs.length > 1 && !setting.label.endsWith("seeds")
            ? `${setting.label} (${own.length} seeds)`
            : setting.label,
        low: smoothed(
          across((v) => Math.min(...v)),
          state.smooth,
        ),
        high: smoothed(
          across((v) => Math.max(...v)),
          state.smooth,
        ),
      };
    })
    .filter(Boolean);
  return lineChart({ x, lines, label: options.label || name, legend: S.settings.length > 1, ...options });
}

// Several figures of the run in focus.
function figures(named, options = {}) {
  const run = S.runs[state.focus];
  const lines = named
    .filter(([name]) => run.metrics[name])
    .map(([name, label, own, dash], i) => ({
      label,
      colour: own || colour(i),
      dash,
      values: smoothed(series(run, name), state.smooth),
      faint: dash ? null : series(run, name),
    }));
  return lineChart({ x: run.steps, lines, ...options });
}
