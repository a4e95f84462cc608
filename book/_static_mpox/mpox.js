"use strict";

const fromDisk = window.location.protocol === "file:";

// Opened from disk, a page may not read another one: the search lists pages without an excerpt.
if (fromDisk) { DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false; }

// Paper is white: a page that is read in the dark prints as it looks in the light.
let themeOfTheScreen = "";
window.addEventListener("beforeprint", () => {
  themeOfTheScreen = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
});
window.addEventListener("afterprint", () => { document.documentElement.dataset.theme = themeOfTheScreen; });

async function printWithPictures() {
  const images = Array.from(document.images);
  images.forEach((image) => { image.loading = "eager"; });
  await Promise.allSettled(images.map((image) => image.decode()));
  window.print();
}

document.addEventListener("DOMContentLoaded", () => {
  // The theme prints at once, without the pictures that were not in sight yet.
  document.querySelectorAll(".btn-download-pdf-button").forEach((button) => { button.onclick = printWithPictures; });
});
