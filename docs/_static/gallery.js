"use strict";
// Cards carry one class a word, such as family-diffusion; a card is shown that fits every filter.
(() => {
  const words = JSON.parse(document.getElementById("gallery-words").textContent);
  const cards = [...document.querySelectorAll(".cards .card")];
  const chosen = {};
  const count = document.getElementById("gallery-count");

  function apply() {
    for (const card of cards) card.hidden = !Object.values(chosen).every((word) => !word || card.classList.contains(word));
    const shown = cards.filter((card) => !card.hidden).length;
    count.textContent = `${shown} of ${cards.length} recipes`;
  }

  function choice(sort, word, label) {
    const line = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = sort;
    input.value = word;
    input.checked = !word;
    input.addEventListener("change", () => { chosen[sort] = word; apply(); });
    const text = document.createElement("span");
    text.textContent = label;
    line.append(input, text);
    return line;
  }

  for (const [sort, { title, options }] of Object.entries(words)) {
    const group = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = title;
    group.append(legend, choice(sort, "", "all"), ...Object.entries(options).map(([word, label]) => choice(sort, word, label)));
    document.getElementById("gallery-filter").append(group);
  }
  apply();
})();
