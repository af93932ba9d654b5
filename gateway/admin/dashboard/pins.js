/** Events on a chart: a vertical line each, and a mark above it that says what happened when it is hovered or focused. */

import { el, keyed, say } from "./dom.js";

const LEAST_GAP = 18;
const MOST_LINES = 6;
const clock = (at) => new Date(1000 * at).toLocaleTimeString("en-GB");

export class Pins {
  /** Marks are put into `frame`, which holds the chart and nothing else. */
  constructor(frame) {
    this.events = [];
    this.list = el("ol", { class: "pins", "aria-label": "Events on this chart" });
    this.list.addEventListener("keydown", (pressed) => this.#move(pressed));
    frame.append(this.list);
  }

  /** Show these, the newest first: `seconds` since the epoch, and `words`. */
  set(events) {
    this.events = events;
  }

  /** Place the marks above a chart that has been drawn; those too near to each other are one. */
  place(plot) {
    const { min, max } = plot.scales.x;
    const groups = [];
    for (const each of this.events) {
      if (each.seconds < min || each.seconds > max) continue;
      const left = plot.over.offsetLeft + plot.valToPos(each.seconds, "x");
      const last = groups.at(-1);
      if (last && last.left - left < LEAST_GAP) last.events.push(each);
      else groups.push({ left, key: each.key, events: [each] });
    }
    const middle = plot.over.offsetLeft + plot.over.offsetWidth / 2;
    keyed(this.list, groups, (group) => group.key, makeMark, (item, { left, events }) => {
      item.style.left = `${left}px`;
      item.classList.toggle("late", left > middle);
      const lines = events.slice(0, MOST_LINES).map((each) => `${clock(each.seconds)} ${each.words}`);
      if (events.length > MOST_LINES) lines.push(`and ${events.length - MOST_LINES} more`);
      say(item.querySelector(".told"), lines.join("\n"));
    });
    this.#reachable(this.list.querySelector("[tabindex='0']"));
  }

  /** The list is one stop of the tab key; arrows move within it. */
  #reachable(wanted) {
    const marks = [...this.list.querySelectorAll("button")];
    const one = wanted ?? marks[0];
    for (const mark of marks) mark.tabIndex = mark === one ? 0 : -1;
  }

  #move(pressed) {
    const item = pressed.target.closest("li");
    // The newest is first in the list, and rightmost on the chart.
    const next = { ArrowLeft: item.nextElementSibling, ArrowRight: item.previousElementSibling }[pressed.key];
    if (pressed.key === "Escape") pressed.target.blur();
    if (!next) return;
    pressed.preventDefault();
    const mark = next.querySelector("button");
    this.#reachable(mark);
    mark.focus();
  }
}

function makeMark() {
  return el("li", {}, el("button", { type: "button", tabindex: "-1" }, el("span", { class: "told" })));
}
