/** Elements and numbers: what all parts of the page are made with. Text is only ever set as text. */

export const byId = (id) => document.getElementById(id);

/** Return a new element with these attributes and children (elements or texts). */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Change the text of an element, if it is another one: a screen reader reads what changes. */
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

/** Return words as a sentence: the gateway's own often begin in lower case and have no full stop. */
export function sentence(words) {
  if (!words) return "";
  const first = words.replace(/^(ttft|tpot|itl)\b|^[a-z](?=[a-z]+\b)/, (begin) => begin.toUpperCase());
  return `${first.replaceAll("`", "")}${/[.!?]$/.test(words) ? "" : "."}`;
}

/** Show a number in words in a `data` element, and keep the number itself beside it. */
export function show(node, value, text) {
  node.value = value ?? "";
  say(node, text);
}

/** Keep one child for each item, in the order of the items: `make` builds it, `update` fills it. */
export function keyed(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const item of items) {
    const name = key(item);
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    const place = before ? before.nextElementSibling : parent.firstElementChild;
    if (place !== child) parent.insertBefore(child, place);
    update(child, item);
    before = child;
  }
  for (const child of known.values()) child.remove();
}

/** Return a function that shows rows in a table: columns are [title, fill(cell, item)]. */
export function table(section, caption, key, columns) {
  const head = el("tr", {}, ...columns.map(([title]) => el("th", { scope: "col" }, title)));
  const body = el("tbody");
  const scroller = el(
    "div",
    { class: "scroller", role: "region", tabindex: "0", "aria-label": caption },
    el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, head), body),
  );
  section.append(scroller);
  const make = () =>
    el("tr", {}, ...columns.map(([title], at) => (at ? el("td", { "data-label": title }) : el("th", { scope: "row" }))));
  return (items) => {
    empty(section, !items.length);
    scroller.hidden = !items.length;
    keyed(body, items, key, make, (row, item) =>
      columns.forEach(([, fill], at) => fill(row.children[at], item)));
  };
}

export function empty(section, is) {
  section.querySelector(":scope > .empty").hidden = !is;
}

/** Return the `data` element of a cell, which is made the first time. */
export function number(cell) {
  return cell.firstElementChild ?? cell.appendChild(el("data"));
}

const whole = new Intl.NumberFormat("en");
export const count = (value) => whole.format(value);
export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/** Return a share as per cent, with as many digits as its distance from 100 % needs. */
export function percent(share) {
  if (share == null) return "–";
  const away = Math.abs(1 - share);
  const digits = away === 0 || away >= 0.1 ? 1 : Math.min(5, 1 - Math.floor(Math.log10(away)) - 1);
  return `${(100 * share).toFixed(digits).replace(/\.?0+$/, "")} %`;
}

/** Return a part of something as per cent, as people say it. */
export function part(share) {
  if (share == null) return "–";
  const percents = 100 * share;
  return `${percents && percents < 9.95 ? percents.toFixed(1).replace(/\.0$/, "") : percents.toFixed(0)} %`;
}

export function burnRate(value) {
  return value == null ? "no events" : `${value >= 100 ? value.toFixed(0) : value.toFixed(2)}×`;
}

/** Return seconds as people say them: 85 ms, 1.2 s, 12 min, 3 h, 2 d. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * unit) return `${Math.round(seconds / unit)} ${name}`;
  }
  return `${seconds.toPrecision(2)} s`;
}
