"use strict";
// The page is whole without this.
const all = (what, where = document) => [...where.querySelectorAll(what)];
const root = document.documentElement;

// Theme: the system's, light or dark; where colours are forced, the system's. Storage may be closed.
const forced = matchMedia("(forced-colors: active)").matches;
const themes = ["system", "light", "dark"], button = document.getElementById("theme");
const setTheme = (name) => {
  root.dataset.theme = !forced && themes.includes(name) ? name : "system";
  button.textContent = `theme: ${root.dataset.theme}`;
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept */ }
};
try { setTheme(localStorage.getItem("theme")); } catch { setTheme(); }
button.onclick = () => setTheme(themes[(themes.indexOf(root.dataset.theme) + 1) % 3]);

// Where the clipboard is closed, the command is selected.
for (const button of all(".copy"))
  button.onclick = () => {
    getSelection().selectAllChildren(button.previousElementSibling);
    navigator.clipboard?.writeText(getSelection()).then(
      () => { button.textContent = "copied"; }, () => { /* selected all the same */ });
  };

// Tables sort by their heads, filter by place and text, and keep both in the address.
const word = (cell) => cell.firstChild?.textContent.trim() ?? "";
const number = (cell) => parseFloat(word(cell).replaceAll(",", "").replace("\u2212", "-"));
const tables = all(".tools").map((tools) => {
  const table = document.getElementById(tools.dataset.for), body = table.tBodies[0];
  const rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const fields = all("select, input", tools);
  let sorted = "";

  function sort(how) {
    const column = parseInt(how), down = how.endsWith("d") ? -1 : 1;
    if (!heads[column]) return;
    sorted = how;
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].ariaSort = down < 0 ? "descending" : "ascending";
    const order = heads[column].className === "n"
      ? (a, b) => isNaN(a = number(a)) - isNaN(b = number(b)) || down * (a - b)
      : (a, b) => down * word(a).localeCompare(word(b));
    body.append(...rows.toSorted((a, b) => order(a.cells[column], b.cells[column])));
  }
  function filter() {
    for (const row of rows)
      row.hidden = !fields.every(({ name, value }) => !value || (name === "find"
        ? row.textContent.toLowerCase().includes(value.toLowerCase())
        : word(row.cells[name]) === value));
    tools.querySelector("output").value =
      `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  }
  function keep() {
    const kept = new URLSearchParams({ sort: sorted });
    for (const { name, value } of fields) if (value) kept.set(name, value);
    history.replaceState(null, "", `#${table.id}?${kept}`);
  }
  function show(kept) {
    for (const field of fields) field.value = kept.get(field.name) ?? "";
    sort(kept.get("sort") ?? "");
    filter();
    const fold = table.closest("details");
    if (fold) fold.open = true;
    tools.scrollIntoView();
  }
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    const [first, then] = head.className === "n" ? "da" : "ad";
    button.onclick = () => { sort(at + (sorted === at + first ? then : first)); keep(); };
  });
  for (const field of fields) field.oninput = () => { filter(); keep(); };
  return { table, rows, fields, filter, show };
});
const [, id, kept] = /^#([\w-]+)\?(.*)/.exec(location.hash) ?? [];
tables.find(({ table }) => table.id === id)?.show(new URLSearchParams(kept));

// Ranks: a cell shows its curve when pointed at or reached with arrows; Enter finds its line.
const curves = JSON.parse(document.getElementById("curves").textContent);
for (const figure of all(".heats")) {
  const cellsOf = (panel) => all("tbody td", panel);
  function point(cell) {
    const layer = cell.parentNode.rowIndex, head = cell.cellIndex;
    figure.querySelector("b").textContent = `layer ${layer}, head ${head}`;
    for (const mark of all("[data-panel]", figure)) {
      const panel = document.getElementById(mark.dataset.panel), { x, y } = curves[panel.id];
      const same = panel.rows[layer]?.cells[head], at = cellsOf(panel).indexOf(same);
      const place = (share, k) => `${240 * x[k] / figure.dataset.tokens},${150 - 0.15 * share}`;
      if (mark.tagName === "SPAN") mark.textContent = same?.textContent ?? "\u2014";
      else mark.setAttribute("points", `0,150 ${(y[at] ?? []).map(place).join(" ")}`);
    }
  }
  function find(cell) {
    const found = tables.find(({ table }) => table.id === figure.dataset.table);
    const name = (label) => found.fields.find((field) => field.dataset.place === label)?.name;
    found?.show(new URLSearchParams(
      [[name("layer"), cell.parentNode.rowIndex], [name("head"), cell.cellIndex]]));
  }
  for (const panel of all(".heat", figure)) {
    const cells = cellsOf(panel), wide = panel.rows[0].cells.length - 1;
    cells.forEach((cell, at) => {
      cell.tabIndex = at ? -1 : 0;
      cell.onmouseenter = cell.onfocus = () => point(cell);
      cell.onclick = () => find(cell);
      cell.onkeydown = (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[event.key];
        if (event.key === "Enter") find(cell);
        if (!cells[at + step]) return;
        event.preventDefault();
        cell.tabIndex = -1;
        cells[at + step].tabIndex = 0;
        cells[at + step].focus();
      };
    });
  }
}

// Samples: one layer at a time over the image, or all beside it.
const looks = all(".looks").map((figure) => {
  const [slider, whole] = all("input", figure);
  const show = (one = !whole.checked) => {
    figure.classList.toggle("one", one);
    slider.nextElementSibling.value = slider.value;
    for (const map of all(".map", figure)) map.hidden = one && map.textContent !== slider.value;
  };
  slider.oninput = whole.oninput = () => show();
  return show;
});

// Paper shows what is open, with every row; tables that are folded away are in tables/.
addEventListener("beforeprint", () => {
  for (const { rows } of tables) for (const row of rows) row.hidden = false;
  for (const show of looks) show(false);
});
addEventListener("afterprint", () => {
  for (const { filter } of tables) filter();
  for (const show of looks) show();
});
for (const each of all(".scripted")) each.hidden = false;
for (const show of looks) show();
root.dataset.ready = "";
