/** What happened lately, newest first, with filters; charts mark some of it. */

import { byId, el, empty, keyed, say } from "./dom.js";

const MOST = 300;
let known = [];

function show() {
  const [words, levels, kind] = ["filter", "level", "kind"].map((id) => byId(id).value.toLowerCase());
  const found = known.filter((each) =>
    (!levels || levels.split(" ").includes(each.level)) &&
    (!kind || kind.split(" ").includes(each.pin)) &&
    `${called(each)} ${each.words}`.toLowerCase().includes(words));
  empty(byId("events"), !found.length);
  say(byId("events").querySelector(".empty"), known.length ? "No event like that." : "Nothing has happened yet.");
  keyed(byId("event-list"), found, (each) => each.key, make, () => {});
}

const called = (each) => each.pin || each.about.replaceAll("_", " ");

function make(each) {
  const time = new Date(each.at);
  const worker = each.worker == null ? [] : [" ", el("small", {}, `worker ${each.worker}`)];
  return el(
    "li",
    { "data-level": each.level },
    el("time", { datetime: each.at }, time.toLocaleTimeString("en-GB")),
    el("strong", {}, each.level === "info" ? called(each) : `${called(each)}, ${each.level}`),
    el("span", {}, each.words, ...worker),
  );
}

for (const id of ["filter", "level", "kind"]) byId(id).addEventListener("input", show);

/** Add those that are new: the gateway tells the latest each time. */
export function events(now) {
  const before = new Map(known.map((each) => [each.key, each]));
  for (const each of now.events) {
    const key = `${each.at}\n${each.about}\n${each.words}`;
    if (!before.has(key)) before.set(key, { ...each, key, seconds: Date.parse(each.at) / 1000 });
  }
  known = [...before.values()].sort((a, b) => b.seconds - a.seconds).slice(0, MOST);
  show();
}

/** Return the events that charts of a model mark, which uses these pools; newest first. */
export function pinned(model, pools) {
  return known.filter((each) => each.pin && (!each.model || each.model === model) && (!each.pool || pools.has(each.pool)));
}
