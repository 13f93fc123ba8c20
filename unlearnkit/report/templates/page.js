"use strict";
// A failure must be visible to whoever looks at the page and to the test that loads it.
const fail = (text) => { document.documentElement.dataset.error = text; };
addEventListener("error", (event) => fail(event.message));
addEventListener("securitypolicyviolation", (event) => fail(event.violatedDirective));

const data = JSON.parse(document.getElementById("data").textContent);
const button = (text, click) => {
  const element = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  element.addEventListener("click", click);
  return element;
};

// Tables of numbers are sorted by a click on a heading, and taken along as CSV or by the clipboard.
const cells = (row) => [...row.cells].map((cell) => cell.innerText.trim().replace(/\s+/g, " "));
const ascii = (text) => text.replaceAll("−", "-");
const number = (text) => Number.parseFloat(ascii(text).replace(/^[>±]\s*/, ""));
const whole = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?( ?%)?$/i;
// No formula for a spreadsheet: what is not wholly a number stays a text.
const plain = (text) => whole.test(ascii(text)) ? ascii(text) : text.replace(/^(?=[=+\-@＝＋－＠\t])/, "'");
const csv = (rows) => rows.map((row) => row.map((text) => `"${plain(text).replaceAll('"', '""')}"`).join(",")).join("\n");

function sort(table, column, heading) {
  const down = heading.getAttribute("aria-sort") === "descending";
  for (const other of table.tHead.rows[table.tHead.rows.length - 1].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "ascending" : "descending");
  const text = (row) => cells(row)[column];
  const rows = [...table.tBodies[0].rows].map((row) => [row, number(text(row)), text(row)]);
  const least = (value) => (Number.isNaN(value) ? (down ? Infinity : -Infinity) : value); // what is unknown comes last
  rows.sort(([, a, one], [, b, other]) => (least(a) - least(b) || one.localeCompare(other)) * (down ? 1 : -1));
  table.tBodies[0].append(...rows.map(([row]) => row));
}

for (const table of document.querySelectorAll(".scroll > table:not(.montage, .validation)")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const groups = [...(table.tHead.rows[1] ? table.tHead.rows[0].cells : [])].flatMap((cell) => Array(cell.colSpan).fill(cell.innerText));
  const names = heads.map((cell, i) => cell.innerText + (groups[i] ? `, ${groups[i]}` : ""));
  const rows = () => [names, ...[...table.tBodies[0].rows].map(cells)];
  heads.forEach((cell, i) => cell.replaceChildren(button(cell.innerText, () => sort(table, i, cell))));
  const title = table.parentNode.getAttribute("aria-label").replace("Table: ", "");
  const copy = button("Copy", () => {
    const told = (text) => { copy.textContent = text; };
    const text = rows().map((row) => row.map(plain).join("\t")).join("\n");
    navigator.clipboard.writeText(text).then(() => told("Copied"), () => told("Not allowed here"));
  });
  const save = button("CSV", () => {
    const link = document.createElement("a");
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(csv(rows()))}`;
    link.download = `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.csv`;
    link.click();
  });
  for (const [element, does] of [[copy, "Copy"], [save, "Save as CSV"]]) element.setAttribute("aria-label", `${does}: ${title}`);
  const tools = document.createElement("p");
  tools.className = "tools";
  tools.append(copy, " ", save);
  table.parentNode.before(tools);
}

const svg = (name, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
