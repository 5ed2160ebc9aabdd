"use strict";
document.querySelectorAll("table.sorts").forEach(function (table) {
  var body = table.tBodies[0];
  function key(row, column) {
    var cell = row.cells[column];
    var value = cell.dataset.value || cell.textContent.trim();
    // A figure that is not a number is the worst of all.
    if (value === "null") { return Infinity; }
    return value === "" || isNaN(value) ? value : Number(value);
  }
  function compare(a, b) {
    if (typeof a === "number") { return typeof b === "number" ? (a === b ? 0 : a > b ? 1 : -1) : 1; }
    return typeof b === "number" ? -1 : a.localeCompare(b);
  }
  Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.textContent = "";
    head.appendChild(button);
    button.addEventListener("click", function () {
      var down = head.getAttribute("aria-sort") !== "descending";
      Array.prototype.forEach.call(table.tHead.rows[0].cells, function (h) { h.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      Array.from(body.rows).sort(function (a, b) {
        var order = compare(key(a, column), key(b, column));
        return down ? -order : order;
      }).forEach(function (row) { body.appendChild(row); });
    });
  });
});
