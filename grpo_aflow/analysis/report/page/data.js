// Data: unpacked from the page itself. `S` is the summary, `R` the rollouts with typed columns and their texts.
let S = null;
let R = null;
const state = { focus: 0, smooth: 5 };

async function unpack(id) {
  const node = document.getElementById(id);
  const text = node.textContent.trim();
  node.textContent = "";
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const nan = (value) => (value === null || value === undefined ? NaN : value);

function rolloutTable(data) {
  const c = data.columns;
  const n = c.step ? c.step.length : 0;
  const numbers = (name) => Float64Array.from(c[name] || [], nan);
  const places = (name) => Int32Array.from(c[name] || []);
  const table = {
    n,
    texts: data.texts,
    names: data.names,
    graphs: data.graphs,
    tasks: data.tasks,
    details: data.details,
  };
  for (const name of [
    "run",
    "part",
    "step",
    "group",
    "member",
    "task",
    "version",
    "status",
    "reason",
    "rule",
    "graph",
    "text",
    "written",
    "source",
    "answer",
    "read",
    "calls",
    "tokens",
  ])
    table[name] = places(name);
  for (const name of ["tier", "reward", "advantage", "score", "exact", "cost", "length", "prompt_length"])
    table[name] = numbers(name);
  table.errors = c.errors || [];
  table.neighbours = groupsOf(table);
  return table;
}

// "run part step group" -> its rollouts in member order.
function groupsOf(table) {
  const groups = new Map();
  for (let i = 0; i < table.n; i++) {
    const key = groupKey(table, i);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(i);
  }
  for (const members of groups.values()) members.sort((a, b) => table.member[a] - table.member[b]);
  return groups;
}
const groupKey = (t, i) => `${t.run[i]} ${t.part[i]} ${t.step[i]} ${t.group[i]}`;

// Which texts each rollout can be found by: one flat list with the places where each rollout's own begin.
function searchIndex(table) {
  const starts = new Int32Array(table.n + 1);
  const refs = [];
  for (let i = 0; i < table.n; i++) {
    const task = table.tasks[table.task[i]];
    const own = [table.text[i], table.source[i], table.answer[i], table.read[i]];
    if (task.problem !== undefined) own.push(task.problem, ...task.answers);
    const [, findings, trace] = table.details[i];
    for (const finding of findings) own.push(finding[2]);
    for (const entry of trace) {
      own.push(entry.error, entry.thinking);
      for (const value of entry.arguments) own.push(value[1]);
      for (const value of entry.result) own.push(value[1]);
      for (const call of entry.calls) {
        own.push(call.reply, call.thinking);
        for (const message of call.messages) own.push(message[1]);
      }
    }
    for (const ref of new Set(own)) refs.push(ref);
    starts[i + 1] = refs.length;
  }
  return { starts, refs: Int32Array.from(refs), lower: table.texts.map((text) => text.toLowerCase()) };
}

// One flag a rollout: the text is in any of its texts, or in its task's name. Each text is looked at once.
function found(table, index, wanted) {
  const needle = wanted.toLowerCase();
  const hit = Uint8Array.from(index.lower, (text) => (text.includes(needle) ? 1 : 0));
  const byTask = table.tasks.map((task) => task.id.toLowerCase().includes(needle));
  const flags = new Uint8Array(table.n);
  for (let i = 0; i < table.n; i++) {
    if (byTask[table.task[i]]) {
      flags[i] = 1;
      continue;
    }
    for (let k = index.starts[i]; k < index.starts[i + 1]; k++)
      if (hit[index.refs[k]]) {
        flags[i] = 1;
        break;
      }
  }
  return flags;
}

function mean(values) {
  const known = values.filter((v) => Number.isFinite(v));
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : NaN;
}

// Centred running mean over `width` values, shorter at the ends.
function smoothed(values, width) {
  const half = Math.floor(width / 2);
  return values.map((_, i) => mean(values.slice(Math.max(0, i - half), i + half + 1)));
}

const series = (run, name) => (run.metrics[name] || []).map(nan);
const last = (values) => {
  for (let i = values.length - 1; i >= 0; i--) if (Number.isFinite(values[i])) return values[i];
  return NaN;
};
const metricNames = (pattern) =>
  Object.keys(S.metrics)
    .filter((name) => pattern.test(name))
    .sort();
