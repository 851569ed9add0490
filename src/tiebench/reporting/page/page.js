"use strict";
// Charts: text and lines take the page's own colour, so that they follow light, dark and print.
const ink = "currentColor";
const config = {
  background: null,
  font: "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif",
  view: { stroke: null },
  rule: { stroke: ink },
  axis: {
    labelColor: ink, titleColor: ink, tickColor: ink, domainColor: ink, gridColor: ink, gridOpacity: 0.14,
    domainOpacity: 0.5, tickOpacity: 0.5, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
    labelLimit: 150, titlePadding: 8,
  },
  legend: {
    labelColor: ink, titleColor: ink, orient: "top", labelFontSize: 12, titleFontSize: 12, labelLimit: 220,
    titleFontWeight: "normal", symbolStrokeWidth: 2, symbolOpacity: 1,
  },
};
const drawn = [];
for (const figure of document.querySelectorAll("figure.with-chart")) {
  const place = figure.querySelector(".chart");
  const chart = JSON.parse(figure.querySelector("script").textContent);
  const isNarrow = place.clientWidth < 480;
  if (isNarrow) {
    config.axis.labelLimit = 90;
    config.legend.columns = 2;
  }
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, config };
  drawn.push(vegaEmbed(place, chart, options));
}
Promise.all(drawn).then(
  () => document.documentElement.setAttribute("data-drawn", "all"),
  (error) => console.error(error),
);

// On paper nothing can be opened: everything is.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => closed.forEach((details) => details.removeAttribute("open")));

// Tables: a click or Enter on a heading sorts by it, and once more the other way; what is missing stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((heading, place) => {
    heading.querySelector("button").addEventListener("click", () => sortTable(table, heading, place));
  });
}

function sortTable(table, heading, place) {
  const isDown = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
  const isNumber = heading.classList.contains("number");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: row.cells[place].dataset.value }));
  rows.sort((left, right) => {
    if (left.value === "" || right.value === "") return (left.value === "") - (right.value === "");
    const order = isNumber ? left.value - right.value : left.value.localeCompare(right.value, "en", { numeric: true });
    return isDown ? -order : order;
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
  const name = heading.textContent.trim();
  document.getElementById("status").textContent = `Sorted by ${name}, ${isDown ? "descending" : "ascending"}.`;
}
