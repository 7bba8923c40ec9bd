// Line charts on a canvas: linear or logarithmic axes, zoom by dragging, values under the pointer.
"use strict";

/** A number in a few characters. */
function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-2 || size >= 1e5)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/** Round numbers on a linear axis, about `count` of them. */
function linearTicks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step && ticks.length < 50; i++) ticks.push(i * step);
  return ticks;
}

/** Powers of ten; between them 2 and 5 where there is room; round numbers where the axis is too short for powers. */
function logarithmicTicks(low, high, count) {
  const [from, to] = [Math.log10(low), Math.log10(high)];
  if (to - from < 0.7) return linearTicks(low, high, count).filter((tick) => tick > 0);
  const every = Math.max(1, Math.ceil((to - from) / Math.max(count, 1)));
  const ticks = [];
  for (let e = Math.floor(from); e <= Math.ceil(to); e++) {
    if (e % every !== 0) continue;
    for (const m of to - from < 2.2 ? [1, 2, 5] : [1]) {
      const tick = m * 10 ** e;
      if (tick >= low * 0.9999 && tick <= high * 1.0001) ticks.push(tick);
    }
  }
  return ticks;
}

/** A tick's label. */
function label(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-2 && size < 1e5) return String(Number(value.toPrecision(6)));
  return value.toExponential().replace(/(\.\d\d)\d+/, "$1").replace("e+", "e");
}

const MOST_LINES = 10; // under the pointer

class Chart {
  /** `options`: title, x and y (names of the axes), logX, logY (whether at first), switchX, switchY (whether to offer), zoomed,
   *  names (of the values 0, 1, … on the y axis), dots (without lines), counts (x has whole numbers). */
  constructor(parent, options) {
    this.options = options;
    [this.logX, this.logY] = [Boolean(options.logX), Boolean(options.logY)];
    this.series = [];
    this.events = [];
    this.window = null;
    this.pointer = null;
    this.drag = null;
    this.root = document.createElement("div");
    this.root.className = "chart";
    this.root.id = options.id;
    const head = this.add("div", "chart-head", this.root);
    this.add("h2", "", head).textContent = options.title;
    if (options.switchX) this.toggle(head, "log " + options.switchX, "logX");
    if (options.switchY) this.toggle(head, "log " + options.switchY, "logY");
    this.back = this.add("button", "", head);
    this.back.type = "button";
    this.back.textContent = "whole range";
    this.back.hidden = true;
    this.back.addEventListener("click", () => this.zoom(null));
    this.note = this.add("p", "chart-note", this.root);
    this.note.hidden = true;
    const plot = this.add("div", "plot", this.root);
    this.canvas = this.add("canvas", "", plot);
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${options.title}: ${options.y} over ${options.x}`);
    this.hover = this.add("div", "hover", plot);
    this.hover.hidden = true;
    this.legend = this.add("ul", "legend", this.root);
    parent.append(this.root);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  add(tag, kind, parent) {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    parent.append(element);
    return element;
  }

  toggle(head, text, key) {
    const outer = this.add("label", "", head);
    const box = this.add("input", "", outer);
    box.type = "checkbox";
    box.checked = this[key];
    box.name = key;
    outer.append(" " + text);
    box.addEventListener("change", () => {
      this[key] = box.checked;
      if (key === "logX") this.zoom(null);
      this.draw();
    });
  }

  /** A line below the title. */
  remark(text) {
    this.note.hidden = text === "";
    this.note.textContent = text;
  }

  /** Series: {name, color, dashed, points, legend (where it is not the name; "" for none)}; events: {x, text}. */
  show(series, events = []) {
    [this.series, this.events] = [series.filter((one) => one.points.length > 0), events];
    this.root.hidden = this.series.length === 0;
    this.legend.replaceChildren(...this.series.filter((one) => one.legend !== "").map((one) => {
      const item = document.createElement("li");
      const swatch = this.add("span", one.dashed ? "swatch dashed" : "swatch", item);
      swatch.style.setProperty("--swatch", one.color);
      swatch.style.background = one.color;
      item.append(one.legend ?? one.name);
      return item;
    }));
    this.draw();
  }

  /** Shows a part of the x axis, or all of it. */
  zoom(window) {
    this.window = window;
    this.back.hidden = window === null;
    if (this.options.zoomed) this.options.zoomed();
    this.draw();
  }

  /** Pixels across. */
  width() {
    return Math.max(100, Math.round(this.canvas.clientWidth));
  }

  visible(points) {
    return points.filter(([x, y]) => (!this.logX || x > 0) && (!this.logY || y > 0));
  }

  /** Ends of the axes. */
  ranges() {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const one of this.series) {
      for (const [x] of this.visible(one.points)) [x0, x1] = [Math.min(x0, x), Math.max(x1, x)];
    }
    if (this.window) [x0, x1] = this.window;
    for (const one of this.series) {
      for (const [x, y] of this.visible(one.points)) if (x >= x0 && x <= x1) [y0, y1] = [Math.min(y0, y), Math.max(y1, y)];
    }
    if (this.options.names) [y0, y1] = [0.5, this.options.names.length - 0.5];
    if (!(x0 <= x1)) [x0, x1] = this.logX ? [1, 10] : [0, 1];
    if (!(y0 <= y1)) [y0, y1] = this.logY ? [0.1, 1] : [0, 1];
    if (x0 === x1) [x0, x1] = this.logX ? [x0 / 1.5, x1 * 1.5] : [x0 - 1, x1 + 1];
    if (this.logY) {
      const margin = Math.max((y1 / y0) ** 0.04, 1.05);
      [y0, y1] = [y0 / margin, y1 * margin];
    } else {
      const margin = (y1 - y0 || Math.abs(y1) || 1) * 0.05;
      [y0, y1] = [y0 - margin, y1 + margin];
    }
    return { x: [x0, x1], y: [y0, y1] };
  }

  place(value, [low, high], log, from, to) {
    const f = log ? Math.log : (v) => v;
    return from + ((f(value) - f(low)) / (f(high) - f(low))) * (to - from);
  }

  value(pixel, [low, high], log, from, to) {
    const part = (pixel - from) / (to - from);
    return log ? low * (high / low) ** part : low + part * (high - low);
  }

  draw() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0 || height === 0) return;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = "12px system-ui, sans-serif";
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const [x, y] = this.axes(context, color, width, height);
    const { box } = this.at;
    context.save();
    context.beginPath();
    context.rect(box.left - 3, box.top - 3, box.right - box.left + 6, box.bottom - box.top + 6);
    context.clip();
    context.setLineDash([2, 4]);
    context.strokeStyle = color("--warn");
    for (const event of this.events) {
      if (!this.logX || event.x > 0) this.stroke(context, [[x(event.x), box.top], [x(event.x), box.bottom]]);
    }
    for (const one of this.series) this.curve(context, one, x, y);
    context.restore();
    this.overlay(context, color, x, y);
  }

  /** Draws the axes; returns where values lie on the canvas. */
  axes(context, color, width, height) {
    const ranges = this.ranges();
    const { names } = this.options;
    const yTicks = names ? [...names.keys()].slice(1) : (this.logY ? logarithmicTicks : linearTicks)(...ranges.y, Math.floor((height - 60) / 45));
    const labels = yTicks.map(names ? (tick) => names[tick] : label);
    const left = Math.ceil(Math.max(30, ...labels.map((text) => context.measureText(text).width))) + 26;
    const box = { left, right: width - 14, top: 8, bottom: height - 40 };
    this.at = { box, ranges };
    const x = (value) => this.place(value, ranges.x, this.logX, box.left, box.right);
    const y = (value) => this.place(value, ranges.y, this.logY, box.bottom, box.top);
    [context.strokeStyle, context.fillStyle, context.lineWidth] = [color("--grid"), color("--faint"), 1];
    [context.textAlign, context.textBaseline] = ["right", "middle"];
    yTicks.forEach((tick, i) => {
      this.stroke(context, [[box.left, y(tick)], [box.right, y(tick)]]);
      context.fillText(labels[i], box.left - 6, y(tick));
    });
    this.xTicks(context, x, width);
    context.fillText(this.options.x, (box.left + box.right) / 2, height - 16);
    context.save();
    context.translate(10, (box.top + box.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.textBaseline = "middle";
    context.fillText(this.options.y, 0, 0);
    context.restore();
    context.strokeStyle = color("--line");
    this.stroke(context, [[box.left, box.top], [box.left, box.bottom], [box.right, box.bottom]]);
    return [x, y];
  }

  /** Vertical lines, with their labels where these have room. */
  xTicks(context, x, width) {
    const { box, ranges } = this.at;
    let ticks = (this.logX ? logarithmicTicks : linearTicks)(...ranges.x, Math.floor((box.right - box.left) / 80));
    if (this.options.counts) ticks = ticks.filter((tick) => Number.isInteger(tick));
    [context.textAlign, context.textBaseline] = ["center", "top"];
    let used = -Infinity;
    for (const tick of ticks) {
      const half = context.measureText(label(tick)).width / 2;
      this.stroke(context, [[x(tick), box.top], [x(tick), box.bottom]]);
      const middle = Math.min(x(tick), width - half - 2);
      if (middle - half < used + 8) continue;
      context.fillText(label(tick), middle, box.bottom + 5);
      used = middle + half;
    }
  }

  curve(context, one, x, y) {
    const points = this.visible(one.points).map(([a, b]) => [x(a), y(b)]);
    context.setLineDash(one.dashed ? [5, 3] : []);
    [context.strokeStyle, context.fillStyle, context.lineWidth] = [one.color, one.color, one.dashed ? 1.2 : 1.8];
    if (!this.options.dots) this.stroke(context, points);
    if (this.options.dots || points.length <= 40) {
      for (const [a, b] of points) {
        context.beginPath();
        context.arc(a, b, 2, 0, 7);
        context.fill();
      }
    }
    context.setLineDash([]);
  }

  stroke(context, points) {
    context.beginPath();
    points.forEach(([x, y], i) => (i === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
    context.stroke();
  }

  /** The part that is being dragged over, and the values at the pointer. */
  overlay(context, color, x, y) {
    this.hover.hidden = true;
    const { box, ranges } = this.at;
    if (this.drag && this.pointer) {
      context.globalAlpha = 0.15;
      context.fillStyle = color("--accent");
      const [from, to] = [this.drag, this.pointer].map((at) => Math.min(Math.max(at.x, box.left), box.right));
      context.fillRect(Math.min(from, to), box.top, Math.abs(to - from), box.bottom - box.top);
      context.globalAlpha = 1;
    }
    const at = this.pointer;
    if (!at || at.x < box.left || at.x > box.right || at.y < box.top || at.y > box.bottom) return;
    const value = this.value(at.x, ranges.x, this.logX, box.left, box.right);
    const lines = [];
    let nearest = null;
    for (const one of this.series) {
      const point = this.nearest(this.visible(one.points), value, x);
      if (!point) continue;
      if (nearest === null || Math.abs(x(point[0]) - at.x) < Math.abs(x(nearest) - at.x)) nearest = point[0];
      lines.push([one, point]);
      context.fillStyle = one.color;
      context.beginPath();
      context.arc(x(point[0]), y(point[1]), 3.5, 0, 7);
      context.fill();
    }
    if (lines.length === 0) return;
    // What lies nearest, where there are many.
    lines.sort(([, a], [, b]) => Math.abs(y(a[1]) - at.y) - Math.abs(y(b[1]) - at.y)).splice(MOST_LINES);
    context.strokeStyle = color("--faint");
    context.lineWidth = 1;
    this.stroke(context, [[x(nearest), box.top], [x(nearest), box.bottom]]);
    const event = this.events.find((one) => Math.abs(x(one.x) - at.x) < 4);
    const items = [`${this.options.x}: ${short(nearest)}`, ...lines.map(([one, point]) => `${one.name}: ${this.options.names ? this.options.names[point[1]] : short(point[1])}`)];
    if (event) items.push(event.text);
    this.hover.replaceChildren(...items.map((text) => Object.assign(document.createElement("div"), { textContent: text })));
    this.hover.hidden = false;
    const before = at.x + 14 + this.hover.offsetWidth > this.canvas.clientWidth;
    this.hover.style.left = `${before ? Math.max(0, at.x - 14 - this.hover.offsetWidth) : at.x + 14}px`;
    this.hover.style.top = `${box.top + 4}px`;
  }

  /** The point that is horizontally nearest to a value. */
  nearest(points, value, x) {
    let best = null;
    for (const point of points) {
      if (best === null || Math.abs(x(point[0]) - x(value)) < Math.abs(x(best[0]) - x(value))) best = point;
    }
    return best;
  }

  listen() {
    const place = (event) => {
      const rect = this.canvas.getBoundingClientRect();
      return { x: event.clientX - rect.left, y: event.clientY - rect.top };
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.drag = this.pointer = place(event);
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      this.pointer = place(event);
      this.draw();
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const [from, to] = [this.drag, place(event)];
      this.drag = null;
      if (from && this.at && Math.abs(to.x - from.x) > 6) {
        const { box, ranges } = this.at;
        const ends = [from.x, to.x].map((at) => Math.min(Math.max(at, box.left), box.right));
        const values = ends.map((at) => this.value(at, ranges.x, this.logX, box.left, box.right));
        if (values[0] !== values[1]) this.zoom([Math.min(...values), Math.max(...values)]);
      }
      this.draw();
    });
    for (const gone of ["pointerleave", "pointercancel"]) {
      this.canvas.addEventListener(gone, () => {
        this.pointer = this.drag = null;
        this.draw();
      });
    }
    this.canvas.addEventListener("dblclick", () => this.zoom(null));
  }
}
