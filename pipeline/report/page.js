"use strict";
// Tables can be sorted by a click on a heading; without this script everything is there to read.
const number = (text) => {
  const found = text.replace(/,/g, "").match(/^-?\d+(\.\d+)?(e[-+]?\d+)?/i);
  if (!found) return null;
  const unit = text.match(/\s(kB|MB|GB|M)\b/);
  return parseFloat(found[0]) * (unit ? { kB: 1e3, MB: 1e6, GB: 1e9, M: 1e6 }[unit[1]] : 1);
};
const sortBy = (table, column, heading) => {
  const upwards = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
  const rows = [...table.rows].filter((row) => row.querySelector("td"));
  const key = (row) => row.cells[column] ? row.cells[column].innerText.trim() || row.cells[column].dataset.value || "" : "";
  rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    const [m, n] = [number(x), number(y)];
    const order = m !== null && n !== null ? m - n
      : m !== null ? -1 : n !== null ? 1 : x.localeCompare(y);
    return upwards ? order : -order;
  });
  for (const row of rows) row.parentNode.append(row);
};
for (const table of document.querySelectorAll("table")) {
  if (table.rows.length < 3 || table.classList.contains("fixed")) continue;
  [...table.rows[0].cells].forEach((heading, column) => {
    if (!heading.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, column, heading));
  });
}
// What scrolls can be reached by the keyboard, and has the name of the last heading before it.
const named = {}, headings = [...document.querySelectorAll("h2, h3, h4, summary")];
for (const box of document.querySelectorAll(".scroll:not([tabindex])")) {
  const before = headings.filter((heading) => {
    const folded = heading.closest("details");
    return box.compareDocumentPosition(heading) & Node.DOCUMENT_POSITION_PRECEDING
      && (!folded || folded.contains(box));
  });
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  const name = before.length ? before.at(-1).textContent.trim() : "table";
  named[name] = (named[name] || 0) + 1;
  box.setAttribute("aria-label", named[name] > 1 ? `${name}, table ${named[name]}` : name);
}
// Values on hover, at once and on touch too. The title is kept for readers without it.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);
document.addEventListener("pointerover", (event) => {
  const title = event.target.closest && event.target.closest("svg g, svg rect");
  const words = title && title.querySelector(":scope > title");
  tip.hidden = !words;
  if (!words) return;
  tip.textContent = words.textContent;
  tip.style.left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.max(event.clientY - tip.offsetHeight - 10, 4) + "px";
});
document.addEventListener("scroll", () => { tip.hidden = true; }, true);
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentNode.querySelector("pre");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // a page that was opened from a file may not use the clipboard
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
// The page of a run that goes on reloads itself. A reader can stop that, as WCAG 2.2.1 asks for.
const seconds = Number(document.body.dataset.reload || 0);
if (seconds) {
  const again = () => setTimeout(() => location.reload(), 1000 * seconds);
  let timer = again();
  const pause = document.getElementById("pause");
  pause.addEventListener("click", () => {
    clearTimeout(timer);
    timer = pause.textContent === "Pause" ? 0 : again();
    pause.textContent = timer ? "Pause" : "Reload again";
  });
}
// How old the page is: a run that was killed cannot say so itself.
const written = document.querySelector("time[data-running]");
if (written) {
  const minutes = Math.floor((Date.now() - Date.parse(written.dateTime)) / 60000);
  if (minutes >= 1) written.textContent += ` (${minutes} min ago)`;
  // What was opened stays open when the page reloads itself.
  const parts = [...document.querySelectorAll("details")];
  const names = parts.map((part) => part.querySelector("summary").textContent.split(",")[0]);
  let known = {};
  try { known = JSON.parse(sessionStorage.getItem(location.pathname)) || {}; } catch { /* not allowed */ }
  parts.forEach((part, place) => {
    if (names[place] in known) part.open = known[names[place]];
    part.addEventListener("toggle", () => {
      known[names[place]] = part.open;
      try { sessionStorage.setItem(location.pathname, JSON.stringify(known)); } catch { /* not allowed */ }
    });
  });
}
// Closed details are not printed.
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
