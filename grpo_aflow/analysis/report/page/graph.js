// Operator graphs: a column for each depth, results flow from left to right into the answer.
function layout(graph) {
  const depth = [];
  const depthOf = (node) => {
    if (depth[node] === undefined) {
      depth[node] = 0;
      depth[node] = Math.max(0, ...graph.feeds[node].map((from) => 1 + (from === node ? 0 : depthOf(from))));
    }
    return depth[node];
  };
  const columns = [];
  graph.operators.forEach((_, node) => {
    const d = depthOf(node);
    (columns[d] ||= []).push(node);
  });
  const made = [...Array(columns.length).keys()].map((d) => columns[d] || []).filter((column) => column.length);
  return [...made, ["answer"]];
}

// Whether a result passes over a column: its edge is drawn as an arc above.
function skips(graph, columns) {
  const column = new Map(columns.flatMap((nodes, at) => nodes.map((node) => [node, at])));
  const far = (from, to) => column.get(to) - column.get(from) > 1;
  return (
    graph.answer.some((from) => far(from, "answer")) ||
    graph.feeds.some((sources, node) => sources.some((from) => far(from, node)))
  );
}

function drawGraph(graph, options = {}) {
  const columns = layout(graph);
  const rowHeight = 46,
    gap = 34,
    high = Math.max(...columns.map((c) => c.length));
  const widthOf = (column) => Math.max(...column.map((node) => 24 + 7.1 * nameOf(graph, node).length));
  const places = new Map(),
    arcs = skips(graph, columns) ? 16 : 0;
  let x = 4;
  columns.forEach((column) => {
    const width = widthOf(column);
    column.forEach((node, i) =>
      places.set(node, {
        x,
        width,
        y: ((high - column.length) * rowHeight) / 2 + i * rowHeight + rowHeight / 2 + 2 + arcs,
      }),
    );
    x += width + gap;
  });
  const edges = [];
  graph.feeds.forEach((sources, node) => sources.forEach((from) => from !== node && edges.push([from, node])));
  graph.answer.forEach((from) => edges.push([from, "answer"]));
  const drawn = [
    edges.map(([from, to]) => edge(places.get(from), places.get(to))),
    [...places].map(([node, place]) => box(graph, node, place)),
  ];
  const width = x - gap + 6,
    height = high * rowHeight + 4 + arcs;
  return s(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      class: "graph",
      role: "img",
      style: `width:${options.scale ? width * options.scale : width}px`,
      "aria-label": spelled(graph),
    },
    drawn,
  );
}

const nameOf = (graph, node) => (node === "answer" ? "answer" : graph.operators[node].replace(/\*$/, " ×n"));

function edge(from, to) {
  const x0 = from.x + from.width,
    x1 = to.x,
    middle = (x0 + x1) / 2;
  const top = from.y - 40;
  const d =
    x1 - x0 > 60 && from.y === to.y
      ? `M${x0 - 12},${from.y - 14}C${x0 + 12},${top} ${x1 - 12},${top} ${x1 + 12},${to.y - 14}`
      : `M${x0},${from.y}C${middle},${from.y} ${middle},${to.y} ${x1},${to.y}`;
  return s("path", { d, class: "edge" });
}

function box(graph, node, place) {
  const repeated = node !== "answer" && graph.operators[node].endsWith("*");
  const tint = node === "answer" ? "var(--ink)" : operatorColour(graph.operators[node]);
  const shape = (dx, dy) =>
    s("rect", {
      x: place.x + dx,
      y: place.y - 14 + dy,
      width: place.width,
      height: 28,
      rx: node === "answer" ? 14 : 7,
      class: node === "answer" ? "node answer" : "node",
      style: `--own:${tint}`,
    });
  return [
    repeated && shape(4, -4),
    shape(0, 0),
    s("text", { x: place.x + place.width / 2, y: place.y + 4.5, class: "node-name middle" }, nameOf(graph, node)),
  ];
}

function spelled(graph) {
  const parts = graph.operators.map(
    (name, node) =>
      `${name}${graph.feeds[node].length ? ` from ${graph.feeds[node].map((from) => graph.operators[from]).join(", ")}` : ""}`,
  );
  return `operator graph: ${parts.join("; ")}; the answer from ${graph.answer.map((node) => graph.operators[node]).join(", ") || "nothing"}`;
}

// In a table's cell: the operators as coloured dots with their names.
const graphLine = (graph) =>
  h(
    "span",
    { class: "graph-line" },
    graph.operators.map((name) =>
      h("span", { class: "dot", style: `--own:${operatorColour(name)}`, text: name.replace("*", "×n") }),
    ),
  );
