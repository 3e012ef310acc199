// A formula wider than the page scrolls: let the keyboard reach it.
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll("div.math mjx-container")) {
    if (formula.scrollWidth > formula.clientWidth) {
      formula.tabIndex = 0;
    }
  }
});

// Press a heading of a table of results to sort by it; again: the other way round.
function number(cell) {
  const found = cell.textContent.replace(/,/g, "").match(/-?\d+(\.\d+)?(e-?\d+)?/i);
  return found ? Number(found[0]) : NaN;
}

function sortBy(table, column, down) {
  const [body] = table.tBodies;
  const cellOf = (row) => row.cells[column];
  const order = (a, b) => {
    const gap = number(cellOf(a)) - number(cellOf(b));
    const words = cellOf(a).textContent.localeCompare(cellOf(b).textContent);
    return (column && !Number.isNaN(gap) ? gap : words) * (down ? -1 : 1);
  };
  body.append(...[...body.rows].sort(order));
}

function makeSortable(table) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) {
        other.removeAttribute("aria-sort");
      }
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortBy(table, column, down);
    });
  }
}

window.addEventListener("load", () => {
  document.querySelectorAll("#results table").forEach(makeSortable);
});
