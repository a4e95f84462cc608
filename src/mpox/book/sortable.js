function mpoxSortable(id) {
  "use strict";
  const table = document.getElementById(id);
  const body = table.tBodies[0];
  const original = Array.from(body.rows);
  const number = (text) => (/^[-+]?[\d.]/.test(text) ? parseFloat(text) : NaN);

  function compare(column, down) {
    const texts = new Map(original.map((row) => [row, row.cells[column].textContent.trim()]));
    const numbers = original.every((row) => texts.get(row) === "" || !Number.isNaN(number(texts.get(row))));
    return (first, second) => {
      const [a, b] = [texts.get(first), texts.get(second)];
      if (a === "" || b === "") { return (a === "") - (b === ""); }  // what is not known comes last either way
      const order = numbers ? number(a) - number(b) : a.localeCompare(b);
      return down ? -order : order;
    };
  }

  const headers = Array.from(table.tHead.rows[0].cells);
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      original.slice().sort(compare(column, down)).forEach((row) => body.appendChild(row));
    });
    header.replaceChildren(button);
  });
}
