const { positions, beside } = data;
const solutions = new Map([...positions, ...beside].map((shown) => [shown.id, shown]));
const slider = document.getElementById("slider");
const marker = svg("circle", { id: "marker", r: 8 });
const all = (selector) => document.querySelectorAll(selector);
const picture = (image, of) => document.getElementById(`${image.dataset.set}/${of}/${image.dataset.index}`);

function show(id) {
  const shown = solutions.get(id);
  slider.classList.toggle("aside", !shown.place);
  if (shown.place) slider.value = shown.place;
  slider.setAttribute("aria-valuetext", shown.spoken);
  document.body.dataset.solution = id;
  document.getElementById("current").textContent = shown.label;
  for (const element of all("[data-label]")) element.textContent = shown.label;
  for (const element of all("[data-field]")) element.textContent = shown[element.dataset.field];
  document.querySelector(".numbers").dataset.satisfied = shown.satisfied;
  for (const link of all("a[data-id]")) {
    if (link.dataset.id === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  for (const element of all("[data-row], [data-column], [data-mark]")) {
    const { row, column, mark } = element.dataset;
    element.classList.toggle("selected", [row, column, mark].includes(id));
  }
  for (const image of all(".now img")) place(image, id, shown.label);
  const point = document.querySelector(`.front :is(.point, .stop)[data-mark="${CSS.escape(id)}"] use`);
  marker.setAttribute("visibility", point ? "visible" : "hidden");
  if (point) marker.style.transform = `translate(${point.getAttribute("x")}px, ${point.getAttribute("y")}px)`;
  for (const group of all(`.panels [data-mark="${CSS.escape(id)}"]`)) group.parentNode.append(group); // drawn on top
}

// Every picture is embedded once, in the montage or hidden below the rows; the rows borrow it from there.
function place(image, of, label) {
  const source = picture(image, of);
  image.classList.toggle("none", !source);
  if (source) image.src = source.src;
  else image.removeAttribute("src");
  image.alt = `${image.dataset.set} image ${Number(image.dataset.index) + 1}: ${source ? label : "no picture"}`;
}

const moved = () => document.body.classList.add("moved"); // only what a person does is animated

function linked() {
  const id = decodeURIComponent(location.hash.replace(/^#solution=/, ""));
  if (solutions.has(id)) show(id);
}

// A pointer says where it wants to be; a key, or a screen reader, goes at least one place on.
let held = false;
slider.addEventListener("pointerdown", () => { held = true; });
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { held = false; });

const away = (shown) => Math.abs(shown.place - slider.value);
const nearest = () => positions.reduce((best, shown) => (away(shown) < away(best) ? shown : best));

slider.addEventListener("input", () => {
  moved();
  const before = positions.findIndex((shown) => shown.id === document.body.dataset.solution);
  const on = Math.sign(slider.value - (positions[before]?.place ?? slider.value));
  const found = nearest();
  show((!held && found === positions[before] && positions[before + on] || found).id);
});
slider.addEventListener("change", () => location.replace(`#solution=${encodeURIComponent(nearest().id)}`));
addEventListener("hashchange", () => {
  moved();
  linked();
});

document.querySelector(".front .point")?.before(marker);
for (const image of all(".strip:not(.now) img")) place(image, image.dataset.of, image.dataset.of);
const more = document.getElementById("more");
if (more) {
  more.hidden = false;
  more.addEventListener("click", () => {
    for (const row of all("tr.more")) row.hidden = false;
    more.remove();
  });
}
show(nearest().id);
linked();
