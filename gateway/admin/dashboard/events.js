/** What happened lately, newest first, with a filter. */

import { byId, el, empty, keyed, say } from "./dom.js";

const MOST = 300;
let known = [];

function show() {
  const [words, levels] = [byId("filter").value.toLowerCase(), byId("level").value];
  const found = known.filter((each) =>
    (!levels || levels.split(" ").includes(each.level)) && `${each.about} ${each.words}`.toLowerCase().includes(words));
  empty(byId("events"), !found.length);
  keyed(byId("event-list"), found, (each) => each.key, make, () => {});
}

function make(each) {
  const time = new Date(each.at);
  const words = el("span");
  say(words, each.words);
  return el(
    "li",
    { "data-level": each.level },
    el("time", { datetime: each.at }, time.toLocaleTimeString("en-GB")),
    el("strong", {}, each.level === "info" ? each.about.replaceAll("_", " ") : each.level),
    words,
  );
}

byId("filter").addEventListener("input", show);
byId("level").addEventListener("change", show);

/** Add those that are new: the gateway tells the latest fifty each time. */
export function events(now) {
  const before = new Map(known.map((each) => [each.key, each]));
  for (const each of now.events) {
    const key = `${each.at}\n${each.about}\n${each.words}`;
    if (!before.has(key)) before.set(key, { ...each, key });
  }
  known = [...before.values()].sort((a, b) => b.at.localeCompare(a.at)).slice(0, MOST);
  show();
}
