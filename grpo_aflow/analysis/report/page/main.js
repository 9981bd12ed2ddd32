// The page: sections by the address's fragment, the run in focus, colours, keys.
const VIEWS = {
  overview: ["Overview", overviewView],
  training: ["Training", trainingView],
  workflows: ["Workflows", workflowsView],
  evaluation: ["Evaluation", evaluationView],
  rollouts: ["Rollouts", rolloutsView],
  setup: ["Setup", setupView],
};

function route() {
  const [name, rest] = location.hash.slice(1).split("/");
  const view = VIEWS[name] ? name : "overview";
  if (view === "rollouts" && rest !== undefined && rest !== "") browser.chosen = Number(rest);
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === `#${view}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = view;
  document.getElementById("main").replaceChildren(...VIEWS[view][1]().flat(3).filter(Boolean));
}

function focusOn(place) {
  state.focus = place;
  document.getElementById("focus").value = String(place);
  route();
}

const THEMES = [
  ["", "◐", "as the system has them"],
  ["light", "☀", "light"],
  ["dark", "☾", "dark"],
];
function themes() {
  const button = document.getElementById("theme");
  let at = 0;
  const set = () => {
    const [name, sign, told] = THEMES[at];
    if (name) document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
    button.textContent = sign;
    button.title = `Colours: ${told}`;
    button.setAttribute("aria-label", `Colours: ${told}`);
  };
  button.addEventListener("click", () => {
    at = (at + 1) % THEMES.length;
    set();
  });
  set();
}

function keys(event) {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (document.body.dataset.view !== "rollouts" || !browser.nodes) return;
  if (event.key === "/" && !typing) {
    event.preventDefault();
    document.getElementById("filter-text").focus();
  }
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    closeDetail();
  }
}

async function start() {
  S = await unpack("data-summary");
  document
    .getElementById("nav")
    .append(...Object.entries(VIEWS).map(([name, [label]]) => h("a", { href: `#${name}` }, label)));
  const focus = document.getElementById("focus");
  focus.append(...S.runs.map((run, i) => h("option", { value: i, text: run.name })));
  focus.addEventListener("change", () => focusOn(Number(focus.value)));
  document.getElementById("focus-label").hidden = S.runs.length < 2;
  themes();
  addEventListener("hashchange", route);
  addEventListener("resize", () => {
    if (document.body.dataset.view === "rollouts" && browser.nodes) drawRows();
  });
  document.addEventListener("keydown", keys);
  route();
  await new Promise((done) => setTimeout(done, 30));
  R = rolloutTable(await unpack("data-rollouts"));
  document.documentElement.dataset.ready = "true";
  if (document.body.dataset.view === "rollouts") route();
  requestIdleCallback(() => {
    browser.search ||= searchIndex(R);
  });
}
start().catch((error) => {
  document
    .getElementById("main")
    .replaceChildren(
      h("p", {
        class: "loading",
        text:
          `This page cannot be drawn: ${error.message}.` +
          (self.DecompressionStream ? "" : " It needs a browser of 2023 or later."),
      }),
    );
  throw error;
});
