"use strict";
// Sorts tables by the column that is clicked, filters long ones, and names what is pointed at.
const isDate = text => /^\d+[-:]\d/.test(text);
const number = text =>
  /^[-+]?[\d.]/.test(text) && !isDate(text) ? parseFloat(text.replaceAll(",", "")) : NaN;

function compare(one, other) {
  const [a, b] = [number(one), number(other)];
  if (!Number.isNaN(a) && !Number.isNaN(b)) return a - b;
  return one.localeCompare(other, undefined, {numeric: true});
}

function sort(table, column, heads) {
  const descending = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach(head => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  const text = row => row.cells[column].textContent.trim();
  const known = row => text(row) !== "" && text(row) !== "-";
  const rows = [...table.tBodies[0].rows];
  const sorted = rows.filter(known).sort((a, b) => compare(text(a), text(b)));
  if (descending) sorted.reverse();
  table.tBodies[0].append(...sorted, ...rows.filter(row => !known(row)));  // unknown ones last
}

function filter(table, words) {
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
}

for (const table of document.querySelectorAll("table")) {
  const rows = table.tBodies[0].rows.length;
  const heads = [...table.tHead.rows[0].cells];
  if (rows > 1) {
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, column, heads));
      head.append(button);
    });
  }
  if (rows > 10) {
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = `filter ${rows} rows`;
    field.setAttribute("aria-label", "only rows with these words");
    field.addEventListener("input", () => {
      filter(table, field.value.toLowerCase().split(/\s+/).filter(Boolean));
    });
    table.parentElement.before(field);
  }
}

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
for (const spot of document.querySelectorAll(".spots rect")) {
  const text = spot.textContent;
  spot.replaceChildren();  // or the browser would show its own tip, too
  spot.addEventListener("pointerenter", event => {
    tip.textContent = text;
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(0, Math.min(event.pageX + 12, room))}px`;
    tip.style.top = `${event.pageY + 16}px`;
  });
  spot.addEventListener("pointerleave", () => { tip.hidden = true; });
}
