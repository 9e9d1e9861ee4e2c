// After a part of a page was replaced: say so to a screen reader, and on a narrow screen go where the new part is.
"use strict";

const narrow = matchMedia("(max-width: 62rem)");

document.addEventListener("htmx:afterSettle", () => {
  const title = document.getElementById("state-title");
  if (!title) return;
  const announcement = document.getElementById("announcement");
  if (announcement.textContent !== title.textContent) announcement.textContent = title.textContent;
  if (narrow.matches) title.scrollIntoView({ block: "start" });
});
