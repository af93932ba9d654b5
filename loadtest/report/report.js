"use strict";
/** Draws the panels of a report with uPlot: once, and again when the colours or the width change. */

const { panels, events, seconds } = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const drawn = new Map();
const height = (panel) => (panel.timed ? 200 : 260);

/** Three digits, as the tables have them. */
function number(value) {
  const size = Math.abs(value);
  return String(Number(value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2)));
}

/** 1, 2 and 5 times powers of ten around [low, high]. */
function ticks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high * 1.001; power++) {
    for (const step of [1, 2, 5]) found.push(Number(`${step}e${power}`));
  }
  found.push(Number(`1e${Math.floor(Math.log10(high)) + 1}`));
  const first = Math.max(found.findLastIndex((tick) => tick <= low * 1.001), 0);
  const last = found.findIndex((tick) => tick >= high * 0.999);
  const within = found.slice(first, last + 1);
  return within.length > 1 ? within : [within[0], found[last + 1] ?? within[0] * 10];
}

/** Leaves out the ticks whose labels would touch the one before. */
function apart(plot, name, at) {
  let last = -Infinity;
  return at.map((value) => {
    const place = plot.valToPos(value, name);
    if (Math.abs(place - last) < (name === "x" ? 54 : 14)) return null;
    last = place;
    return value;
  });
}

/** The ends of an axis that is logarithmic: those values that are 0 have no say. */
function ends(panel, lines) {
  const above = lines.flat().filter((value) => value > 0);
  if (panel.threshold) above.push(panel.threshold);
  const shown = ticks(above.reduce((a, b) => Math.min(a, b), Infinity), above.reduce((a, b) => Math.max(a, b), 0));
  return [0.93 * shown[0], 1.07 * shown.at(-1)];
}

/** Columns on one common x: null is a gap, undefined nothing at all. */
const columns = (panel) => uPlot.join(panel.traces.map(({ x, y }) => [x ?? panel.x, y]));

function stacked(data) {
  const [x, ...lines] = data;
  let sum = x.map(() => 0);
  return [x, ...lines.map((line) => (sum = sum.map((below, at) => below + (line[at] ?? 0))))];
}

function dotted(plot, x0, y0, x1, y1) {
  plot.ctx.save();
  plot.ctx.strokeStyle = colour("--quiet");
  plot.ctx.lineWidth = devicePixelRatio;
  plot.ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  plot.ctx.beginPath();
  plot.ctx.moveTo(x0, y0);
  plot.ctx.lineTo(x1, y1);
  plot.ctx.stroke();
  plot.ctx.restore();
}

/** The threshold, and a line for each event under its number; numbers that would overlap become one. */
function marks(plot, panel) {
  const { left, top, width, height } = plot.bbox;
  if (panel.threshold) {
    const at = plot.valToPos(panel.threshold, panel.timed ? "y" : "x", true);
    if (panel.timed) dotted(plot, left, at, left + width, at);
    else dotted(plot, at, top, at, top + height);
  }
  if (!panel.timed) return;
  const labels = [];
  events.forEach((at, index) => {
    const x = plot.valToPos(at, "x", true);
    if (x < left - 1 || x > left + width + 1) return;
    dotted(plot, x, top, x, top + height);
    const last = labels.at(-1);
    if (last && x - last.x < 30 * devicePixelRatio) last.to = index + 1;
    else labels.push({ x, from: index + 1, to: index + 1 });
  });
  plot.ctx.save();
  plot.ctx.fillStyle = colour("--quiet");
  plot.ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  plot.ctx.textAlign = "center";
  for (const { x, from, to } of labels) plot.ctx.fillText(from === to ? from : `${from}–${to}`, x, top - 4 * devicePixelRatio);
  plot.ctx.restore();
}

function settings(panel, raw, data, box) {
  const [x, ...lines] = raw;
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false } };
  const logarithmic = (name) => panel.log && name === (panel.timed ? "y" : "x");
  const [low, high] = panel.log ? ends(panel, panel.timed ? lines : [x]) : [];
  const scale = (name) => {
    if (logarithmic(name)) return { distr: 3, time: false, range: name === "y" || !panel.timed ? [low, high] : undefined };
    // All of the data is all of the run; anything else was zoomed to.
    if (name === "x") return { time: false, range: (_, from, to) => (from === x[0] && to === x.at(-1) ? [0, seconds] : [from, to]) };
    return { range: panel.span ?? ((_, _low, most) => uPlot.rangeNum(0, most > 0 ? most : 1, 0.05, true)) };
  };
  const unit = (name) => (name === "y" ? (panel.unit === "%" || !panel.timed ? " %" : "") : panel.timed ? " s" : " ms");
  const shown = (name, size) => {
    const own = { ...axis, size, values: (_, at) => at.map((value) => (value === null ? "" : number(value) + unit(name))) };
    if (!logarithmic(name)) return { ...own, space: name === "x" ? 60 : 36 };
    const all = ticks(low / 0.93, high / 1.07);
    return { ...own, space: 1, splits: () => all, filter: (plot, at) => apart(plot, name, at) };
  };
  const order = panel.traces.map((_, index) => index);
  if (panel.stacked) order.reverse();
  const clamped = (column) => (panel.log && panel.timed ? column.map((value) => (value === 0 ? low : value)) : column);
  const series = order.map((index) => {
    const trace = panel.traces[index];
    return {
      label: trace.name,
      stroke: trace.colour,
      fill: panel.stacked ? trace.colour : undefined,
      width: panel.stacked ? 0 : 1.8,
      dash: trace.dash.length ? trace.dash : undefined,
      points: { size: 5, ...(panel.stacked && { show: false }) },
      value: (_, _value, _series, at) => (at === null ? "" : lines[index][at] == null ? "-" : `${number(lines[index][at])} ${panel.timed ? panel.unit : "%"}`),
    };
  });
  const config = {
    width: box.clientWidth,
    height: height(panel),
    padding: [18, 22, 0, 0],
    cursor: { points: { size: 5 }, drag: { x: panel.timed, y: false }, ...(panel.timed && { sync: { key: "time" } }) },
    legend: { live: true },
    scales: { x: scale("x"), y: scale("y") },
    axes: [shown("x", 28), shown("y", 52)],
    series: [
      { label: panel.timed ? "at" : "up to", value: (_, value) => (value == null ? "" : `${number(value)} ${panel.timed ? "s" : "ms"}`) },
      ...series,
    ],
    hooks: { draw: [(plot) => marks(plot, panel)] },
  };
  return [config, [data[0], ...order.map((index) => clamped(data[index + 1]))]];
}

function draw(panel) {
  const box = document.getElementById(panel.key);
  drawn.get(panel.key)?.destroy();
  const raw = columns(panel);
  const [config, data] = settings(panel, raw, panel.stacked ? stacked(raw) : raw, box);
  drawn.set(panel.key, new uPlot(config, data, box));
}

panels.forEach(draw);
dark.addEventListener("change", () => panels.forEach(draw));
new ResizeObserver(() => {
  for (const panel of panels) {
    const width = document.getElementById(panel.key).clientWidth;
    const plot = drawn.get(panel.key);
    if (plot.width !== width) plot.setSize({ width, height: height(panel) });
  }
}).observe(document.querySelector("main"));
