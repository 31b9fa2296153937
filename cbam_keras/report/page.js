"use strict";

// A click on a heading sorts the rows by that column; another turns it round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const body = heading.closest("table").tBodies[0];
    const index = heading.cellIndex;
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.cells) {
      other.removeAttribute("aria-sort");
    }
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[index].dataset.key;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      // What is empty stays at the end.
      if (x === "" || y === "") return (x === "") - (y === "");
      const found = x - y;
      const order = Number.isNaN(found) ? x.localeCompare(y) : found;
      return down ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
  });
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Where the page may not write there, the text is selected instead.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });
}

addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
