"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures");
  const palette = read("palette");
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  // A finger that drags wants the page to move, not the axes.
  const finger = window.matchMedia("(pointer: coarse)");
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const off = new Set();
  const drawn = new Set();

  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const variable = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // Colours are chosen for white paper; on black each is mixed with white.
  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const ink = (method, alpha = 1) => {
    const share = dark() ? 0.4 : 0;
    const mixed = channels(palette[method]).map((c) => Math.round(c + share * (255 - c)));
    return `rgba(${mixed.join(",")},${alpha})`;
  };

  const coloured = (trace) => {
    const meta = trace.meta || {};
    const colour = ink(meta.method);
    const found = { ...trace, visible: !off.has(meta.method) };
    if (trace.line) found.line = { ...trace.line, color: colour };
    if (trace.fill) found.fillcolor = ink(meta.method, 0.15);
    if (trace.marker) found.marker = { ...trace.marker, color: colour };
    return found;
  };

  const still = (place) => finger.matches || Boolean(place.closest("#histograms"));

  const themed = (place) => {
    const { layout } = figures[place.dataset.figure];
    const axis = {
      fixedrange: still(place),
      gridcolor: variable("--line"),
      linecolor: variable("--soft"),
      color: variable("--soft"),
    };
    const found = {
      ...layout,
      dragmode: still(place) ? false : "zoom",
      uirevision: document.getElementById("log").checked,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: variable("--ink"), size: 12, family: "system-ui, sans-serif" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("--soft"), activecolor: variable("--ink") },
      hoverlabel: { ...layout.hoverlabel, bgcolor: variable("--card"), font: { color: variable("--ink") } },
      xaxis: { ...layout.xaxis, ...axis },
      yaxis: { ...layout.yaxis, ...axis },
    };
    if (document.getElementById("log").checked && place.closest("#curves")) {
      delete found.xaxis.range;
      found.xaxis = { ...found.xaxis, type: "log", autorange: true };
    }
    return found;
  };

  const draw = (place) => {
    const { data, layout } = figures[place.dataset.figure];
    if (!drawn.has(place) && layout.meta) told(place);
    drawn.add(place);
    return Plotly.react(place, data.map(coloured), themed(place), {
      responsive: true,
      displaylogo: false,
      displayModeBar: still(place) ? false : "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
  };

  const paint = () => {
    for (const box of all("#methods input")) {
      box.parentElement.style.setProperty("--colour", ink(box.dataset.method));
    }
    for (const strip of all(".strip")) {
      strip.style.setProperty("--colour", ink(strip.dataset.method));
    }
  };

  const redraw = () => {
    paint();
    drawn.forEach(draw);
  };

  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
      }
    },
    { rootMargin: "400px" },
  );

  const choose = (size) => {
    for (const part of all("[data-size]")) part.hidden = part.dataset.size !== size;
    for (const place of drawn) if (place.offsetParent) Plotly.Plots.resize(place);
  };

  // Of the methods that are shown, whatever is largest in a column before flooring has its star.
  const star = (table) => {
    const best = new Map();
    for (const cell of all("tr:not([hidden]) [data-value]", table)) {
      best.set(cell.cellIndex, Math.max(best.get(cell.cellIndex) || 0, cell.dataset.value));
    }
    for (const cell of all("[data-value]", table)) {
      const found = Number(cell.dataset.value) === best.get(cell.cellIndex);
      cell.classList.toggle("best", found);
      cell.lastElementChild.hidden = !found;
    }
  };

  for (const box of all("#methods input")) {
    box.addEventListener("change", () => {
      off[box.checked ? "delete" : "add"](box.dataset.method);
      for (const part of all("main [data-method]")) part.hidden = off.has(part.dataset.method);
      all("#curves table").forEach(star);
      redraw();
    });
  }
  for (const radio of all("#sizes input")) {
    radio.addEventListener("change", () => choose(radio.value));
  }
  document.getElementById("log").addEventListener("change", redraw);
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    redraw();
  });
  system.addEventListener("change", redraw);
  finger.addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => all(".plot").forEach((place) => place.offsetParent && draw(place)));

  paint();
  all("#curves table").forEach(star);
  const first = document.querySelector("#sizes input:checked");
  if (first) choose(first.value);
  all(".plot").forEach((place) => seen.observe(place));
})();
