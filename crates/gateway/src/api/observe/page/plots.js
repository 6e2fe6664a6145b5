// The plots of the last hour: bars by the minute, and lines. Each is drawn at the size it has, so that its text keeps its.
const SVG = "http://www.w3.org/2000/svg";
const MINUTES = 60;
// The room around a plot for its figures, in pixels.
const LEFT = 52, RIGHT = 10, ABOVE = 10, BELOW = 24;
// As many lines can be told from each other.
const LINES = 6;

function shape(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const sum = (values) => values.reduce((all, one) => all + one, 0);
const known = (values) => values.filter((value) => value !== null);

// The top of an axis that holds `most`, and the step between its lines: 1, 2 or 5 times a power of ten.
function scale(most, least) {
  const rough = Math.max(most, least) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least / 4, [1, 2, 5, 10].map((times) => times * power).find((step) => step >= rough));
  return { step, top: step * Math.ceil(Math.max(most, least) / step) };
}

const ago = (at) => (at === MINUTES - 1 ? "This minute" : `${MINUTES - 1 - at} min ago`);

// Draws a chart into its host, and again whenever the host's size changes. A chart has
//
// - `label`: all of it in a sentence; `said`: the element that tells it, and of a minute under the pointer `tell(at)`
// - `most`, `least`: the greatest value, and what the axis holds at least; `tick(value)`: a value in words
// - `draw(x, y, each)`: its shapes, where `x(at)` is where a minute begins, `each` its width, and `y(value)` a height
// - `none`: what stands there in place of shapes, where there are none
function plot(host, chart) {
  if (!host.chart) {
    new ResizeObserver(() => redraw(host)).observe(host);
    host.addEventListener("pointermove", (event) => {
      const { left, width } = host.getBoundingClientRect();
      const at = Math.floor(((event.clientX - left - LEFT) / (width - LEFT - RIGHT)) * MINUTES);
      look(host, at >= 0 && at < MINUTES ? at : null);
    });
    host.addEventListener("pointerleave", () => look(host, null));
  }
  host.chart = chart;
  redraw(host);
}

function look(host, at) {
  if (host.at === at) return;
  host.at = at;
  redraw(host);
}

function redraw(host) {
  const { chart, at = null } = host;
  const [width, height] = [Math.max(host.clientWidth, 160), Math.max(host.clientHeight, 120)];
  const { step, top } = scale(chart.most, chart.least);
  const each = (width - LEFT - RIGHT) / MINUTES, foot = height - BELOW;
  const x = (minute) => LEFT + minute * each;
  const y = (value) => foot - (value / top) * (foot - ABOVE);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": chart.label });
  const shapes = chart.draw(x, y, each);
  for (let value = 0; value <= top + step / 2; value += step) {
    svg.append(shape("line", { class: value ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    if (shapes.length) svg.append(shape("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, chart.tick(value)));
  }
  for (const minutes of width < 400 ? [60, 30, 0] : [60, 45, 30, 15, 0]) {
    const anchor = minutes === 60 ? "start" : minutes ? "middle" : "end";
    const text = minutes === 60 ? "1 h ago" : minutes ? `${minutes} min` : "now";
    svg.append(
      shape("line", { class: "axis", x1: x(60 - minutes), x2: x(60 - minutes), y1: foot, y2: foot + 4 }),
      shape("text", { x: x(60 - minutes), y: height - 5, "text-anchor": anchor }, text),
    );
  }
  if (at !== null) svg.append(shape("rect", { class: "cursor", x: x(at), y: ABOVE, width: each, height: foot - ABOVE }));
  svg.append(...shapes);
  if (!shapes.length) {
    svg.append(shape("text", { class: "none", x: (LEFT + width - RIGHT) / 2, y: (ABOVE + foot) / 2, "text-anchor": "middle" }, chart.none));
  }
  fill(host, [svg]);
  say(chart.said, at === null ? chart.label : `${ago(at)}: ${chart.tell(at)}`);
}

// What was called, by the minute: served by the primary, served by the others, and failed, each upon the one before.
function bars(minutes, x, y, each, least = 2) {
  const shapes = [];
  minutes.forEach((minute, at) => {
    let below = 0;
    for (const kind of ["primary", "others", "failed"]) {
      if (!minute[kind]) continue;
      const [foot, head] = [y(below), y(below + minute[kind])];
      below += minute[kind];
      // A single failure among thousands of calls is seen too.
      const height = Math.max(foot - head, kind === "failed" ? least : 0);
      shapes.push(shape("rect", { class: kind, x: x(at) + each * 0.1, width: each * 0.8, y: foot - height, height }));
    }
  });
  return shapes;
}

// A line through what is known; where nothing is, it is broken, and what stands alone is a point.
function line(values, x, y, style) {
  let path = "", points = "", pen = "M";
  values.forEach((value, at) => {
    if (value === null) { pen = "M"; return; }
    const place = `${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    const alone = (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null;
    if (alone) points += `M${place}h.01`;
    else path += `${pen}${place}`;
    pen = "L";
  });
  return [["line", path], ["line point", points]].filter(([, d]) => d).map(([kind, d]) => shape("path", { class: `${kind} ${style}`, d }));
}

// A plot without axes, for a table: its greatest value stands beside it.
function spark(label, beside, shapes) {
  const svg = shape("svg", { viewBox: `0 0 ${MINUTES} 20`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...shapes);
  return make("div", { class: "spark" }, svg, make("span", { class: "small" }, beside));
}

function list(id, items, none) {
  fill($(id), items.length ? items : [make("li", { class: "small" }, none)]);
}
// A bar, and what it says in words.
function bar(name, text, value, most, limited) {
  const share = most > 0 ? Math.min(1, value / most) : 0;
  const full = !limited || share < 0.8 ? "no" : share < 1 ? "nearly" : "yes";
  return make("li", {}, make("div", { class: "what" }, make("span", {}, name), make("span", { class: "small" }, text)),
    shape("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" },
      shape("rect", { width: share * 100, height: 1, "data-full": full })));
}
