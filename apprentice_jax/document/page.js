// A click on a heading sorts its table by that column: up, down, and as it was.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  if (rows.length < 3) continue;
  heads.forEach((head, column) => {
    // A button takes the keyboard's focus, and Enter and the space bar press it.
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = {none: "ascending", ascending: "descending", descending: "none"};
      const next = order[head.ariaSort ?? "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next !== "none") head.setAttribute("aria-sort", next);
      body.append(...sorted(rows, column, next));
    });
  });
}

function sorted(rows, column, order) {
  if (order === "none") return rows;
  const sign = order === "ascending" ? 1 : -1;
  const texts = new Map(rows.map(row => [row, row.cells[column].textContent.trim()]));
  return [...rows].sort((one, other) => {
    const [a, b] = [texts.get(one), texts.get(other)];
    // Numbers come before texts, and empty cells last, whichever way the column is sorted.
    const kinds = kind(a) - kind(b);
    if (kinds) return kinds;
    return sign * (kind(a) === 0 ? number(a) - number(b) : compare(a, b));
  });
}

const compare = new Intl.Collator("en", {numeric: true}).compare;
const kind = text => (text === "" ? 2 : isNaN(number(text)) ? 1 : 0);

// The number that a text begins with: of "1,234", "+1.5 to +2.0", "<0.001"; not of "8A,2W".
function number(text) {
  const match = /^<?([+−-]?\d[\d.,]*)(?![\w:/-])/.exec(text);
  return match ? parseFloat(match[1].replaceAll(",", "").replace("−", "-")) : NaN;
}
