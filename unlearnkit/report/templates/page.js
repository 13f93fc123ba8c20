"use strict";
// A failure must be visible to whoever looks at the page and to the test that loads it.
const fail = (text) => { document.documentElement.dataset.error = text; };
addEventListener("error", (event) => fail(event.message));
addEventListener("securitypolicyviolation", (event) => fail(event.violatedDirective));

const data = JSON.parse(document.getElementById("data").textContent);
const svg = (name, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
