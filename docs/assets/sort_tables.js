// A click on a table's heading sorts its rows: numbers as numbers, else as text.
document$.subscribe(() => {
  for (const table of document.querySelectorAll("article table:not([class])")) {
    table.querySelectorAll("thead th").forEach((heading, column) => {
      heading.addEventListener("click", () => {
        const down = heading.dataset.order !== "down";
        heading.dataset.order = down ? "down" : "up";
        const key = (row) => row.cells[column].textContent.trim();
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
          if (Number.isNaN(x) && Number.isNaN(y)) return key(a).localeCompare(key(b));
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // empty cells last
          return x - y;
        });
        if (down) rows.reverse();
        body.append(...rows);
      });
    });
  }
});
