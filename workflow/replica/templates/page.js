"use strict";
// Search and filters of the index, copied commands, and charts, which are drawn when they come into view.
// Every page can be read without all of them.
(() => {
  const form = document.querySelector(".filters");
  if (form) {
    const items = [...document.querySelectorAll("[data-verdict]")].map(node => ({
      node, text: node.textContent.toLowerCase(), verdicts: node.dataset.verdict.split(" "),
      rests: node.dataset.rests.split(" "), claim: node.closest(".claims-list") !== null,
    }));
    const found = document.getElementById("found");
    const choose = () => {
      const given = new FormData(form);
      const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
      const count = {true: 0, false: 0};
      for (const item of items) {
        const shown = words.every(word => item.text.includes(word))
          && ["verdict", "rests"].every(name => {
            const value = given.get(name);
            return !value || (name === "verdict" ? item.verdicts : item.rests).includes(value);
          });
        item.node.hidden = !shown;
        count[item.claim] += shown;
      }
      found.textContent = `${count[true]} claims and ${count[false]} figures`;
    };
    form.hidden = false;
    form.addEventListener("input", choose);
    form.addEventListener("submit", event => event.preventDefault());
    choose();
  }

  if (navigator.clipboard) {
    for (const command of document.querySelectorAll(".command")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(command.querySelector("code").textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      command.append(button);
    }
  }

  let library;
  const vega = () => library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.vega;
    script.onload = resolve;
    script.onerror = reject;
    document.head.append(script);
  });
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const draw = async box => {
    const frame = box.querySelector(".chart");
    const place = document.createElement("div");
    // Who cannot see the chart has the table: it says the same.
    place.setAttribute("aria-hidden", "true");
    frame.hidden = false;
    frame.replaceChildren(place);
    await vega();
    const ink = colour("ink"), line = colour("line"), muted = colour("muted");
    const spec = JSON.parse(box.querySelector("script").textContent, (key, value) =>
      typeof value === "string" && value.startsWith("--") ? colour(value.slice(2)) : value);
    const lines = {gridColor: line, domainColor: muted, tickColor: muted, labelColor: ink, titleColor: ink};
    const config = {
      background: "transparent", font: "system-ui, sans-serif", view: {stroke: line}, axis: lines,
      legend: {labelColor: ink, titleColor: ink, labelLimit: 260, ...(innerWidth < 700 && {orient: "bottom", columns: 1})},
    };
    await window.vegaEmbed(place, spec, {actions: false, config, renderer: "svg"});
  };
  const boxes = [...document.querySelectorAll("[data-chart]")].filter(box => box.querySelector(".chart"));
  const seen = new IntersectionObserver(entries => {
    for (const entry of entries) {
      const box = entry.target;
      if (entry.isIntersecting && (box.open ?? true)) { seen.unobserve(box); draw(box); }
    }
  }, {rootMargin: "200px"});
  for (const box of boxes) {
    seen.observe(box);
    box.addEventListener("toggle", () => { seen.unobserve(box); seen.observe(box); });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const box of boxes) if (box.querySelector(".vega-embed")) draw(box);
  });
  // On paper everything is open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
})();
