"use strict";
// A failure must be visible to whoever looks at the page and to the test that loads it.
const fail = (text) => { document.documentElement.dataset.error = text; };
addEventListener("error", (event) => fail(event.message));
addEventListener("securitypolicyviolation", (event) => fail(event.violatedDirective));

const { axes, points, x: firstX, y: firstY } = JSON.parse(document.getElementById("data").textContent);
const plot = document.getElementById("plot");
const choices = { x: document.getElementById("x"), y: document.getElementById("y") };
const frame = { left: 76, right: 846, top: 14, bottom: 468 };
const OURS = ["original", "boundary", "epsilon"];
const SHAPES = {
  o: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z", s: "M-5-5h10v10h-10z", D: "M0-6.5 6.5 0 0 6.5-6.5 0z",
  "^": "M0-6.5 6 4.5H-6z", v: "M0 6.5 6-4.5H-6z", P: "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  X: "M-6-3-3-6 0-3 3-6 6-3 3 0 6 3 3 6 0 3-3 6-6 3-3 0z", p: "M0-6.5 6.2-2 3.8 5.3H-3.8L-6.2-2z",
  "*": "M0-7 1.8-2.2 6.7-2.2 2.7.9 4.1 5.7 0 2.8-4.1 5.7-2.7.9-6.7-2.2-1.8-2.2z", h: "M-3.2-6h6.4L6.4 0 3.2 6h-6.4L-6.4 0z",
  "<": "M-6.5 0 4.5-6V6z", ">": "M6.5 0-4.5-6V6z", d: "M0-7 4 0 0 7-4 0z", 8: "M-2.5-6h5L6-2.5v5L2.5 6h-5L-6 2.5v-5z",
};
const svg = (name, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const known = (values) => values.filter((value) => value !== null);
const mean = (values) => known(values).reduce((sum, value) => sum + value, 0) / known(values).length;
const short = (value) => Number(value.toPrecision(4)).toString().replace("-", "−");

// The ε solutions and the original model set the scale, so that a method far off does not flatten the rest.
function limits(axis) {
  const values = (wanted) => points.filter(wanted).flatMap((point) => known(point.values[axis.id]));
  const every = values(() => true);
  if (!every.length) return [0, 1];
  const ours = values((point) => OURS.includes(point.kind));
  const seen = ours.length ? ours : every;
  const [low, high] = [Math.min(...seen), Math.max(...seen)];
  const room = 0.6 * (high - low);
  const near = every.filter((value) => value >= low - room && value <= high + room);
  const [least, most] = [Math.min(...near), Math.max(...near)];
  const pad = 0.06 * (most - least || Math.abs(most) || 1);
  return [least - pad, most + pad];
}

function ticks([low, high]) {
  const raw = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((found) => found >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}

const dominates = (one, other) => one[0] <= other[0] && one[1] <= other[1] && (one[0] < other[0] || one[1] < other[1]);

function marker(point, hollow) {
  const dark = OURS.includes(point.kind) && point.kind !== "epsilon";
  return { d: SHAPES[point.shape], fill: point.colour, stroke: point.colour, class: `mark${hollow ? " hollow" : ""}${dark ? " dark" : ""}` };
}

function draw() {
  const [x, y] = ["x", "y"].map((side) => axes.find((axis) => axis.id === choices[side].value));
  const [across, up] = [limits(x), limits(y)];
  const inside = (value, [low, high]) => Math.min(Math.max(value, low), high);
  const at = (value) => frame.left + (frame.right - frame.left) * (inside(value, across) - across[0]) / (across[1] - across[0]);
  const on = (value) => frame.bottom - (frame.bottom - frame.top) * (inside(value, up) - up[0]) / (up[1] - up[0]);
  plot.replaceChildren();
  for (const value of ticks(up)) {
    plot.append(svg("path", { class: "grid", d: `M${frame.left} ${on(value)}H${frame.right}` }));
    plot.append(svg("text", { x: frame.left - 7, y: on(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const value of ticks(across)) plot.append(svg("text", { x: at(value), y: frame.bottom + 17, "text-anchor": "middle" }, short(value)));
  plot.append(svg("path", { class: "frame", d: `M${frame.left} ${frame.top}V${frame.bottom}H${frame.right}` }));
  plot.append(svg("text", { x: (frame.left + frame.right) / 2, y: 508, "text-anchor": "middle" }, x.name));
  plot.append(svg("text", { transform: `translate(14 ${(frame.top + frame.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.name));
  plot.append(svg("text", { x: x.sign > 0 ? frame.left + 12 : frame.right - 12, y: y.sign > 0 ? frame.bottom - 8 : frame.top + 14, "text-anchor": "middle" }, "★"));
  const placed = points.map((point) => ({ point, x: mean(point.values[x.id]), y: mean(point.values[y.id]) }))
    .filter((found) => Number.isFinite(found.x) && Number.isFinite(found.y));
  const turned = (found) => [x.sign * found.x, y.sign * found.y];
  const groups = new Map();
  for (const found of placed) {
    if (["original", "boundary"].includes(found.point.kind)) continue;
    const key = `${found.point.group}/${found.point.kind}`;
    groups.set(key, [...(groups.get(key) || []), found]);
  }
  for (const members of groups.values()) {
    if (members.length < 2) continue;
    const sorted = [...members].sort((a, b) => a.x - b.x);
    const { colour } = members[0].point;
    plot.append(svg("path", { class: "curve", stroke: colour, d: `M${sorted.map((found) => `${at(found.x)} ${on(found.y)}`).join("L")}` }));
  }
  const far = [];
  const legend = new Map();
  for (const found of placed) {
    const { point } = found;
    const hollow = placed.some((other) => dominates(turned(other), turned(found)));
    point.values[x.id].forEach((value, seed) => {
      const other = point.values[y.id][seed];
      if (value === null || other === null || point.values[x.id].length < 2) return;
      plot.append(svg("circle", { class: "seed", r: 2, cx: at(value), cy: on(other), fill: point.colour, opacity: 0.6 }));
    });
    const text = `${point.label}: ${short(found.x)}, ${short(found.y)}${hollow ? ", dominated" : ""}`;
    const mark = svg("path", { ...marker(point, hollow), transform: `translate(${at(found.x)} ${on(found.y)})` });
    mark.append(svg("title", {}, text));
    plot.append(mark);
    if (inside(found.x, across) !== found.x || inside(found.y, up) !== found.y) far.push(text);
    legend.set(`${point.group}/${point.kind}`, point);
  }
  document.getElementById("far").textContent = far.length ? `Drawn on the frame because they lie far outside: ${far.join("; ")}.` : "";
  const several = new Set(points.map((point) => point.group)).size > 1;
  document.getElementById("legend").replaceChildren(...[...legend.values()].map((point) => {
    const item = document.createElement("li");
    const picture = svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    picture.append(svg("path", marker(point, false)));
    item.append(picture, several ? `${point.kind}, recipe ${point.group + 1}` : point.kind);
    return item;
  }));
}

for (const [side, first] of [["x", firstX], ["y", firstY]]) {
  for (const axis of axes) choices[side].append(new Option(axis.name, axis.id, axis.id === first, axis.id === first));
  choices[side].addEventListener("change", draw);
}
draw();
