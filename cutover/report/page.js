"use strict";
// Sorts the list of checks; without JavaScript it stands in its own order.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th[data-sort]").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.querySelectorAll("td[data-key]")[column].dataset.key;
      const order = (a, b) => {
        const [left, right] = [key(a), key(b)];
        const apart = Number(left) - Number(right);
        return (Number.isNaN(apart) ? left.localeCompare(right) : apart) * (down ? -1 : 1);
      };
      table.append(...[...table.tBodies].sort(order));
    });
  });
}
