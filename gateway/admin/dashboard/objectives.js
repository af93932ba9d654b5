/** Objectives: what users get, what is left of the budget, how fast it burns, and who burns it. */

import { Chart } from "./charts.js";
import { burnRate, byId, count, el, keyed, part, percent, plural, say, sentence, show } from "./dom.js";
import { pinned } from "./events.js";
import { Pins } from "./pins.js";

const NAMES = { availability: "Availability", ttft: "TTFT", tpot: "TPOT", itl: "ITL", e2e: "End to end" };
const STATES = ["exhausted", "fast burn", "slow burn", "at risk", "too few data", "healthy"];
const KINDS = [
  ["backend", "Backends, by attempts that missed"],
  ["version", "Versions, by requests that missed"],
  ["tenant", "Tenants"],
  ["prompt", "Length of the prompt"],
];
const OTHERS = "(others)";
const UNKNOWN = "(unknown)";
const MOST_BARS = 5;
const MOST_LINKS = 12;
const slug = (text) => text.replaceAll(/[^\w]+/g, "-");
const charts = new WeakMap();

function name(objective) {
  return NAMES[objective.sli] ?? objective.sli.replaceAll("_", " ");
}

const id = ({ model, objective, sli }) => `objective-${slug(`${model} ${objective} ${sli}`)}`;

function share(objective, window) {
  const total = objective.good[window] + objective.bad[window];
  return total ? objective.good[window] / total : null;
}

function figure(label, part) {
  return el("div", {}, el("dt", {}, label), el("dd", {}, el("data", { "data-part": part })));
}

function chart(title, legend) {
  const items = legend.map(([label, mark]) => el("li", { class: mark }, label));
  const box = el("div", { class: "chart", role: "img", "aria-label": title });
  return el("figure", {}, el("figcaption", {}, title, el("ul", { class: "legend" }, ...items)), el("div", { class: "frame" }, box));
}

function make(objective) {
  const card = el(
    "article",
    { class: "card", id: id(objective), tabindex: "-1" },
    el("h4", {}, name(objective), el("small", {}, ` ${objective.objective}`)),
    el("p", { class: "state" }, el("strong", { "data-part": "state" }), " ", el("span", { "data-part": "why" })),
    el(
      "dl",
      { class: "figures" },
      figure("Good in 5 min", "now"),
      figure("Good in 1 h", "hour"),
      figure("Target", "target"),
      figure("Budget left", "left"),
      figure("Burn rate 1 h", "fast"),
      figure("Burn rate 6 h", "slow"),
    ),
    el("meter", { min: 0, max: 1, low: 0.25, optimum: 1, "aria-label": "Error budget left" }),
    el("p", { "data-part": "budget" }),
    el("p", { "data-part": "outlook" }),
    chart("Good events, last 5 min", [["good", "sli"], ["target", "mark"]]),
    chart("Burn rate", [["5 min", "short"], ["1 h", "fast"], ["6 h", "slow"], ["1, and where pages begin", "mark"], ["event", "pin"]]),
    el("div", { "data-part": "burners" }, el("h5", {}, "Who burns it, last hour"), el("p", {}, "No backend: requests waited too long, or were refused."), el("div")),
  );
  const [sli, burn] = card.querySelectorAll(".chart");
  charts.set(card, [
    new Chart(sli, [["5 min", "--fast"]], {
      range: (low, _, marks) => [Math.max(0, Math.min(low ?? 1, ...marks) - 0.1 * (1 - Math.min(low ?? 1, ...marks))), 1],
      values: (value) => `${+(100 * value).toFixed(3)} %`,
    }),
    new Chart(burn, [["5 min", "--quiet", [2, 3]], ["1 h", "--fast"], ["6 h", "--slow"]], {
      distr: 4,
      splits: (most) => [0, 1, 5, 20, 100, 500].filter((each) => each <= most),
      range: (_, high, marks) => [0, 1.3 * Math.max(high ?? 0, ...marks)],
      values: (value) => `${+value.toPrecision(3)}×`,
      pins: new Pins(burn.parentElement),
    }),
  ]);
  return card;
}

function update(card, objective, at, events) {
  const of = (name) => card.querySelector(`[data-part=${name}]`);
  const { burn, budget } = objective;
  const [now, hour] = [share(objective, "5m"), share(objective, "1h")];
  say(of("state"), objective.state);
  card.dataset.state = objective.state.replaceAll(" ", "-");
  say(of("why"), objective.waiting || (objective.alert ? `a ${objective.alert} fires` : ""));
  show(of("now"), now, now == null ? "no events" : percent(now));
  show(of("hour"), hour, hour == null ? "no events" : percent(hour));
  show(of("target"), objective.target, percent(objective.target));
  show(of("left"), budget.left, budget.left == null ? "not known yet" : percent(Math.max(0, budget.left)));
  show(of("fast"), burn["1h"], burnRate(burn["1h"]));
  show(of("slow"), burn["6h"], burnRate(burn["6h"]));
  for (const each of card.querySelectorAll("figure")) each.hidden = !budget.total;
  const meter = card.querySelector("meter");
  meter.hidden = budget.left == null;
  meter.value = Math.max(0, budget.left ?? 0);
  say(of("budget"), sentence(budget.words));
  say(of("outlook"), sentence(objective.outlook));
  const [sli, rates] = charts.get(card);
  sli.add(at, [now], [objective.target]);
  sli.box.setAttribute("aria-label", `Good events in 5 minutes: ${percent(now)}, target ${percent(objective.target)}`);
  rates.pins.set(events);
  rates.add(at, [burn["5m"], burn["1h"], burn["6h"]], [1, ...Object.values(objective.pages_above)]);
  const pages = Object.entries(objective.pages_above).map(([window, factor]) => `${window} above ${burnRate(factor)}`);
  const words = ["5m", "1h", "6h"].map((window) => `${window}: ${burnRate(burn[window])}`);
  rates.box.setAttribute("aria-label", `Burn rates ${words.join(", ")}. Pages begin at ${pages.join(", ")}`);
  burners(of("burners"), objective);
}

function burners(box, objective) {
  box.hidden = !objective.burners.length;
  const groups = KINDS.map(([kind, title]) => [title, objective.burners.filter((each) => each.kind === kind)]);
  const makeGroup = ([title]) => el("div", {}, el("h6", {}, title), el("ul", { class: "bars" }));
  box.querySelector("p").hidden = objective.burners.some((each) => each.kind === "backend");
  keyed(box.lastElementChild, groups.filter(([, found]) => found.length), ([title]) => title, makeGroup, (group, [, found]) => {
    const all = found.reduce((sum, each) => sum + each.bad, 0);
    keyed(group.querySelector("ul"), fewer(found), (each) => each.name, bar, (row, each) => {
      row.querySelector("meter").value = each.bad / all;
      say(row.querySelector("span"), called(each));
      const of = each.total ? ` of its ${count(each.total)}` : "";
      show(row.querySelector("data"), each.bad, `${part(each.bad / all)}: ${count(each.bad)}${of}`);
    });
  });
}

/** Return the first few, and one for all others: the sum stays the same. */
function fewer(found) {
  const isRest = (each) => each.name === OTHERS || each.name === UNKNOWN;
  const named = found.filter((each) => !isRest(each));
  const rest = [...named.slice(MOST_BARS), ...found.filter((each) => each.name === OTHERS)];
  const sum = (key) => rest.reduce((all, each) => all + each[key], 0);
  const others = rest.length ? [{ ...rest[0], name: OTHERS, bad: sum("bad"), total: sum("total") }] : [];
  return [...named.slice(0, MOST_BARS), ...others, ...found.filter((each) => each.name === UNKNOWN)];
}

function called({ kind, name }) {
  if (name === OTHERS) return "all others";
  if (name === UNKNOWN) return "counted elsewhere, or before the start";
  if (kind !== "prompt") return name;
  const [low, high] = name.replace(/[<+]/, "").split("-").map((each) => count(Number(each)));
  if (name.startsWith("<")) return `below ${low} tokens`;
  return high ? `${low} to ${high} tokens` : `from ${low} tokens`;
}

function bar(each) {
  return el("li", {}, el("span"), el("meter", { min: 0, max: 1, low: 0.2, high: 0.5, optimum: 0, "aria-label": `Part of ${each.name}` }), el("data"));
}

function summary(found, left) {
  const words = STATES.map((state) => [state, found.filter((each) => each.state === state)])
    .filter(([, those]) => those.length)
    .map(([state, those]) => `${those.length} ${state}`);
  const all = left ? `${count(found.length)} of ${plural(found.length + left, "objective")}` : plural(found.length, "objective");
  say(byId("summary"), words.length ? `${all}: ${words.join(", ")}.` : "No objectives.");
  const burning = found.filter((each) => STATES.indexOf(each.state) < 3).length;
  document.title = burning ? `(${burning}) Tidegate` : "Tidegate";
  const bad = found.filter((each) => STATES.indexOf(each.state) < 4);
  bad.sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state));
  byId("burning").hidden = !bad.length;
  keyed(byId("burning"), bad.slice(0, MOST_LINKS), key, makeLink, (item, each) => {
    say(item.firstElementChild, `${each.model} ${name(each)} ${each.objective}: ${each.state}`);
    item.dataset.state = slug(each.state);
  });
}

function makeLink(objective) {
  return el("li", {}, el("a", { href: `#${id(objective)}` }));
}

/** Show them model by model, always in the same order: what burns does not jump about. */
export function objectives(now) {
  const found = [...now.objectives].sort((a, b) => key(a).localeCompare(key(b), "en", { numeric: true }));
  summary(found, now.left_out.objectives);
  const at = Date.parse(now.at) / 1000;
  const models = [...new Set(found.map((each) => each.model))];
  const shown = new Set(found.map(key));
  for (const card of byId("models").querySelectorAll(".card")) {
    if (!shown.has(card.dataset.key)) charts.get(card).forEach((each) => each.remove());
  }
  const makeModel = (model) => el("div", { class: "model" }, el("h3", {}, model), el("p", { class: "quiet" }), el("div", { class: "cards" }));
  keyed(byId("models"), models, (model) => model, makeModel, (group, model) => {
    const own = found.filter((each) => each.model === model);
    const versions = now.models.find((each) => each.name === model)?.versions ?? [];
    say(group.querySelector("p"), traffic(versions));
    const events = pinned(model, new Set(versions.flatMap((each) => each.pools)));
    keyed(group.querySelector(".cards"), own, key, make, (card, objective) => update(card, objective, at, events));
  });
}

/** Say how many requests a model got, and how they were split. */
function traffic(versions) {
  const all = versions.reduce((sum, each) => sum + each.requests_last_minute, 0);
  const words = `${plural(all, "request")} in the last minute`;
  if (versions.length < 2) return `${words}.`;
  const parts = versions.map(({ name, share, weight }) => `${name} got ${part(share ?? 0)} (set to ${part(weight)})`);
  return `${words}; ${parts.join(", ")}.`;
}

/** Begin the charts with the last hour. */
export function begin(history) {
  const cards = new Map([...byId("models").querySelectorAll(".card")].map((card) => [card.dataset.key, card]));
  for (const each of history) {
    const [sli, burn] = charts.get(cards.get(key(each))) ?? [];
    sli?.begin(each.points.map(([at, good]) => [at, good]));
    burn?.begin(each.points.map(([at, , ...rates]) => [at, ...rates]));
  }
}

function key(objective) {
  return `${objective.model}\n${objective.objective}\n${objective.sli}`;
}
