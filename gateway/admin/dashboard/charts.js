/** Charts over the last minutes: uPlot, in the colours of the page, drawn only while they can be seen. */

const MOST_POINTS = 1200;
const HEIGHT = 150;
const LEAST_SECONDS = 60;
const charts = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const time = (seconds) => new Date(1000 * seconds).toLocaleTimeString("en-GB");

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = [...charts].find((each) => each.box === entry.target);
    if (chart) chart.setVisible(entry.isIntersecting);
  }
});
const sized = new ResizeObserver(() => charts.forEach((chart) => chart.fit()));
dark.addEventListener("change", () => charts.forEach((chart) => chart.rebuild()));

/** One chart: `lines` are [label, colour, dash], `marks` the heights of fixed lines, `options` those of the y axis. */
export class Chart {
  constructor(box, lines, options) {
    this.box = box;
    this.lines = lines;
    this.options = options;
    this.data = [[], ...lines.map(() => [])];
    this.marks = [];
    this.pins = options.pins;
    this.visible = false;
    charts.add(this);
    seen.observe(box);
    sized.observe(box);
  }

  /** Add a point at a time in seconds, with the value of each line, null for none. */
  add(at, values, marks) {
    this.marks = marks;
    if (this.data[0].at(-1) >= at) return;
    this.data[0].push(at);
    values.forEach((value, line) => this.data[line + 1].push(value));
    if (this.data[0].length > MOST_POINTS) this.data.forEach((column) => column.shift());
    if (this.visible) this.draw();
  }

  /** Put older points before those that there are: [time, value of each line...]. */
  begin(points) {
    const first = this.data[0][0] ?? Infinity;
    const older = points.filter(([at]) => at < first);
    this.data = this.data.map((column, line) => [...older.map((point) => point[line]), ...column]);
    if (this.visible) this.draw();
  }

  remove() {
    charts.delete(this);
    seen.unobserve(this.box);
    sized.unobserve(this.box);
    this.plot?.destroy();
  }

  setVisible(visible) {
    this.visible = visible;
    if (visible) this.draw();
  }

  fit() {
    if (this.plot && this.box.clientWidth) this.plot.setSize({ width: this.box.clientWidth, height: HEIGHT });
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = undefined;
    if (this.visible) this.draw();
  }

  draw() {
    if (this.plot) this.plot.setData(this.data);
    else if (this.box.clientWidth) this.plot = new window.uPlot(this.settings(), this.data, this.box);
  }

  settings() {
    const { range, values, distr, splits } = this.options;
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    return {
      width: this.box.clientWidth,
      height: HEIGHT,
      cursor: { show: false },
      legend: { show: false },
      scales: {
        x: { range: (_, low, high) => [Math.min(low, high - LEAST_SECONDS), high] },
        y: { distr: distr ?? 1, asinh: 1, range: (_, low, high) => range(low, high, this.marks) },
      },
      axes: [
        { ...axis, size: 28, space: 70, values: (_, splits) => splits.map(time) },
        { ...axis, size: 58, filter: (_, at) => at, splits: splits && ((_, axisAt, low, high) => splits(high)), values: (_, at) => at.map(values) },
      ],
      series: [
        {},
        ...this.lines.map(([label, name, dash]) => ({ label, stroke: colour(name), width: 2, dash, points: { show: false } })),
      ],
      hooks: { draw: [(plot) => this.drawMarks(plot), (plot) => this.drawPins(plot)] },
    };
  }

  drawMarks(plot) {
    const { left, width } = plot.bbox;
    const heights = this.marks.map((mark) => Math.round(plot.valToPos(mark, "y", true)));
    strokes(plot, "--mark", [6, 4], heights.map((y) => [left, y, left + width, y]));
  }

  drawPins(plot) {
    if (!this.pins) return;
    const { top, height } = plot.bbox;
    const { min, max } = plot.scales.x;
    const shown = this.pins.events.filter(({ seconds }) => seconds >= min && seconds <= max);
    const places = shown.map(({ seconds }) => Math.round(plot.valToPos(seconds, "x", true)));
    strokes(plot, "--quiet", [], places.map((x) => [x, top, x, top + height]));
    this.pins.place(plot);
  }
}

function strokes(plot, name, dash, lines) {
  plot.ctx.save();
  plot.ctx.strokeStyle = colour(name);
  plot.ctx.setLineDash(dash);
  plot.ctx.lineWidth = devicePixelRatio;
  for (const [fromX, fromY, toX, toY] of lines) {
    plot.ctx.beginPath();
    plot.ctx.moveTo(fromX, fromY);
    plot.ctx.lineTo(toX, toY);
    plot.ctx.stroke();
  }
  plot.ctx.restore();
}
