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
  for (const element of all("[data-field]")) element.textContent = shown[element.dataset.field] ?? "—";
  document.querySelector(".numbers").dataset.satisfied = shown.satisfied;
  for (const link of all("a[data-id]")) {
    if (link.dataset.id === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  for (const element of all("[data-row], [data-column], [data-mark]")) {
    const { row, column, mark } = element.dataset;
    element.classList.toggle("selected", [row, column, mark].includes(id));
  }
  for (const image of all('img[data-of="now"]')) place(image, id, shown.label);
  for (const image of all('img[data-of="difference"]')) differ(image, id);
  const point = document.querySelector(`.front :is(.point, .stop)[data-mark="${CSS.escape(id)}"] use`);
  marker.setAttribute("visibility", point ? "visible" : "hidden");
  if (point) marker.style.transform = `translate(${point.getAttribute("x")}px, ${point.getAttribute("y")}px)`;
  for (const group of all(".maps .now")) {
    const { points } = data.maps[group.dataset.plane];
    const places = points[group.classList.contains("forget") ? "forget" : "retain"][id]; // none of the dial's
    group.setAttribute("visibility", places ? "visible" : "hidden");
    places?.forEach(([x, y], i) => group.children[i].setAttribute("transform", `translate(${x} ${1 - y})`));
  }
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

// |a − b| and its double, twice, as the page has it of the solution it opens with.
async function differ(image, of) {
  const pair = [of, "original"].map((one) => picture(image, one));
  if (!pair.every(Boolean)) return image.removeAttribute("src");
  image.dataset.wanted = of;
  await Promise.all(pair.map((one) => one.decode()));
  const canvas = Object.assign(document.createElement("canvas"), { width: pair[0].naturalWidth, height: pair[0].naturalHeight });
  const context = canvas.getContext("2d");
  context.drawImage(pair[0], 0, 0);
  for (const [way, drawn] of [["difference", pair[1]], ["lighter", canvas], ["lighter", canvas]]) {
    context.globalCompositeOperation = way;
    context.drawImage(drawn, 0, 0);
  }
  if (image.dataset.wanted === of) image.src = canvas.toDataURL(); // the slider may have moved on
}

// One image at a time, as large as there is room for.
const zoom = document.getElementById("zoom");
let enlarged;

function enlarge(set, index) {
  const rows = [...all(`.strip img[data-set="${set}"][data-index="${index}"]`)];
  if (!rows.length) return;
  enlarged = { set, index: Number(index) };
  zoom.firstChild.replaceChildren(...rows.map((image) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const score = image.nextElementSibling?.textContent;
    caption.textContent = image.closest(".strip").firstElementChild.textContent + (score ? `: ${score}` : "");
    const copy = image.cloneNode();
    for (const key of Object.keys(copy.dataset)) delete copy.dataset[key];
    for (const key of ["role", "tabindex"]) copy.removeAttribute(key);
    figure.append(copy, caption);
    return figure;
  }));
  if (!zoom.open) zoom.showModal();
}

for (const step of zoom.querySelectorAll("button")) {
  step.addEventListener("click", () => (step.value === "0" ? zoom.close() : enlarge(enlarged.set, enlarged.index + Number(step.value))));
}
zoom.addEventListener("keydown", ({ key }) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (step) enlarge(enlarged.set, enlarged.index + step);
});
function picked(image) {
  const [set, of, index] = image.id ? image.id.split(/\/(?=.*\/)|\/(?=\d+$)/) : [image.dataset.set, "", image.dataset.index];
  if (solutions.has(of)) show(of);
  enlarge(set, index);
}
document.querySelector("main").addEventListener("click", ({ target }) => { if (target.matches("img")) picked(target); });
document.querySelector("main").addEventListener("keydown", (event) => {
  if (!event.target.matches("img") || !["Enter", " "].includes(event.key)) return;
  event.preventDefault();
  picked(event.target);
});
for (const image of all(".strip.now img")) Object.assign(image, { role: "button", tabIndex: 0 });

const seen = document.getElementById("seen");
for (const plane of all(".maps svg")) {
  plane.addEventListener("pointerover", ({ target }) => {
    const group = target.closest("g");
    if (!group) return;
    const [set, name] = group.classList;
    const of = name === "now" ? document.body.dataset.solution : name;
    Object.assign(seen.dataset, { set, index: [...group.children].indexOf(target) });
    place(seen, of, solutions.get(of)?.label ?? of);
    document.getElementById("pointed").textContent = seen.alt;
  });
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
for (const image of all('.strip img:not([data-of="now"], [data-of="difference"])')) place(image, image.dataset.of, image.dataset.of);
for (const head of all('[id^="solution="]')) head.removeAttribute("id"); // where a point leads to without this script
document.getElementById("more")?.addEventListener("click", ({ target }) => {
  document.body.classList.add("all");
  target.remove();
});
show(nearest().id);
linked();
