// Makes tables sortable and lets figures be saved from this file alone. Without it everything can be read all the same.
(function () {
  "use strict";
  function value(row, column) {
    var cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return null;
    var text = ("v" in cell.dataset ? cell.dataset.v : cell.textContent).trim();
    var number = parseFloat(text.replace(/\u2212/g, "-").replace(/^[<>\u2264\u2265]\s*/, "").replace(/(\d),(?=\d{3})/g, "$1"));
    return text === "" || text === "\u2013" ? null : isNaN(number) ? text.toLowerCase() : number;
  }
  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null); // what is missing stands last either way
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1;
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var body = table.tBodies[0], order = Array.from(body.rows);
    if (order.length < 2) return;
    Array.from(table.tHead.rows[0].cells).forEach(function (head, column, all) {
      var button = document.createElement("span"); // a real button is not repeated on the next page of paper
      button.className = "sort";
      button.tabIndex = 0;
      button.setAttribute("role", "button");
      button.title = "Sort by this column";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () {
        var next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")];
        if (next === undefined) next = "ascending";
        all.forEach(function (other) { other.removeAttribute("aria-sort"); });
        var rows = order.slice();
        if (next) {
          head.setAttribute("aria-sort", next);
          rows.sort(function (x, y) {
            var a = value(x, column), b = value(y, column);
            return next === "ascending" || a === null || b === null ? compare(a, b) : -compare(a, b);
          });
        }
        rows.forEach(function (row) { body.appendChild(row); });
      });
      button.addEventListener("keydown", function (event) {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        button.click();
      });
    });
  });
  document.querySelectorAll("figure").forEach(function (figure) {
    var image = figure.querySelector("img"), link = figure.querySelector("a[data-picture]");
    if (image && link) link.href = image.src; // the picture that this page holds, should the folder be elsewhere
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details.paper").forEach(function (part) { part.open = true; });
  });
})();
