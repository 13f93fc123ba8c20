const { axes, points, x: firstX, y: firstY } = data;
const plot = document.getElementById("plot");
const choices = { x: document.getElementById("x"), y: document.getElementById("y") };
document.body.dataset.solution = ""; // what is there with the script alone is shown
const narrow = matchMedia("screen and (max-width: 640px)"); // there a letter is as wide as on a large screen, and the plot is not
const frame = { left: 76, top: 14, bottom: 468 };
const known = (values) => values.filter((value) => value !== null);
const mean = (values) => known(values).reduce((sum, value) => sum + value, 0) / known(values).length;
const short = (value) => (Math.abs(value) < 1e-12 ? "0" : Number(value.toPrecision(4)).toString().replace("-", "−"));

const varied = (axis) => axis.sign === 0 && axis.id !== "epsilon";

const dominates = (one, other) => one[0] <= other[0] && one[1] <= other[1] && (one[0] < other[0] || one[1] < other[1]);

const marker = ({ path, colour }, hollow) => ({ d: path, fill: hollow ? "var(--paper)" : colour, stroke: colour, class: "mark" });

function draw() {
  const width = narrow.matches ? 400 : 860;
  frame.right = width - 14;
  plot.setAttribute("viewBox", `0 0 ${width} 520`);
  const [x, y] = ["x", "y"].map((side) => axes.find((axis) => axis.id === choices[side].value));
  const [across, up] = [x.limits, y.limits];
  const inside = (value, [low, high]) => Math.min(Math.max(value, low), high);
  const at = (value) => frame.left + (frame.right - frame.left) * (inside(value, across) - across[0]) / (across[1] - across[0]);
  const on = (value) => frame.bottom - (frame.bottom - frame.top) * (inside(value, up) - up[0]) / (up[1] - up[0]);
  plot.replaceChildren();
  for (const [value, text] of y.ticks) {
    plot.append(svg("path", { class: "grid", d: `M${frame.left} ${on(value)}H${frame.right}` }));
    plot.append(svg("text", { x: frame.left - 7, y: on(value) + 4, "text-anchor": "end" }, text));
  }
  let end = -Infinity; // of the last text, none of which covers another
  for (const [value, text] of x.ticks) {
    const half = 3.5 * text.length;
    if (at(value) - half < end) continue;
    end = at(value) + half + 6;
    plot.append(svg("text", { x: at(value), y: frame.bottom + 17, "text-anchor": "middle" }, text));
  }
  plot.append(svg("path", { class: "frame", d: `M${frame.left} ${frame.top}V${frame.bottom}H${frame.right}` }));
  plot.append(svg("text", { x: (frame.left + frame.right) / 2, y: 508, "text-anchor": "middle" }, x.name));
  plot.append(svg("text", { transform: `translate(14 ${(frame.top + frame.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.name));
  if (x.sign && y.sign) plot.append(svg("text", { x: x.sign > 0 ? frame.left + 12 : frame.right - 12, y: y.sign > 0 ? frame.bottom - 8 : frame.top + 14, "text-anchor": "middle" }, "★"));
  const placed = points.map((point) => ({ point, x: mean(point.values[x.id]), y: mean(point.values[y.id]) }))
    .filter((place) => Number.isFinite(place.x) && Number.isFinite(place.y));
  const turned = (place) => [x.sign * place.x, y.sign * place.y];
  const chain = varied(x) || varied(y) ? (point) => point.key : (point) => point.joined;
  for (const line of new Set(points.map(chain).filter(Boolean))) {
    const members = placed.filter(({ point }) => chain(point) === line).sort((a, b) => a.x - b.x);
    if (members.length < 2) continue;
    const d = `M${members.map((member) => `${at(member.x)} ${on(member.y)}`).join("L")}`;
    plot.append(svg("path", { class: "curve", stroke: members[0].point.colour, d }));
  }
  const far = [];
  const legend = new Map();
  for (const place of placed) {
    const { point } = place;
    const hollow = x.sign && y.sign && placed.some((other) => dominates(turned(other), turned(place)));
    point.values[x.id].forEach((value, seed) => {
      const other = point.values[y.id][seed];
      if (value === null || other === null || point.values[x.id].length < 2) return;
      plot.append(svg("circle", { class: "seed", r: 2, cx: at(value), cy: on(other), fill: point.colour, opacity: 0.6 }));
    });
    const text = `${point.label}: ${short(place.x)}, ${short(place.y)}${hollow ? ", dominated" : ""}`;
    const mark = svg("path", { ...marker(point, hollow), transform: `translate(${at(place.x)} ${on(place.y)})` });
    mark.append(svg("title", {}, text));
    if (document.getElementById(point.pictures)) {
      const link = svg("a", { href: `#${encodeURIComponent(point.pictures)}`, "aria-label": text });
      link.append(mark);
      plot.append(link);
    } else plot.append(mark);
    if (inside(place.x, across) !== place.x || inside(place.y, up) !== place.y) far.push(text);
    legend.set(point.kind, point);
  }
  document.getElementById("far").textContent = far.length ? `Drawn on the frame because they lie far outside: ${far.join("; ")}.` : "";
  document.getElementById("legend").replaceChildren(...[...legend.values()].map((point) => {
    const item = document.createElement("li");
    const picture = svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    picture.append(svg("path", marker(point, false)));
    item.append(picture, point.kind);
    return item;
  }));
}

for (const [side, first] of [["x", firstX], ["y", firstY]]) {
  for (const axis of axes) choices[side].append(new Option(axis.name, axis.id, axis.id === first, axis.id === first));
  choices[side].addEventListener("change", draw);
}
narrow.addEventListener("change", draw);
draw();
