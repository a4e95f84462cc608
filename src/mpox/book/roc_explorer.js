function mpoxRoc(id, curves) {
  "use strict";
  const root = document.getElementById(id);
  const form = root.querySelector("form");
  const field = (name) => form.elements.namedItem(name);
  const frame = root.querySelector(".frame");
  const size = (name) => parseFloat(frame.getAttribute(name));

  function update() {
    const number = parseInt(field("threshold").value, 10);
    const row = curves[field("curve").value][number];
    const [sensitivity, sensitivityLow, sensitivityHigh, specificity, specificityLow, specificityHigh] = row;
    const counts = row.slice(6);
    field("value").value = (number / 100).toFixed(2);
    ["tp", "fn", "fp", "tn"].forEach((name, k) => { root.querySelector(`[data-cell=${name}]`).textContent = counts[k]; });
    const share = (value, low, high) => `${value.toFixed(2)} (95 % CI ${low.toFixed(2)} to ${high.toFixed(2)})`;
    root.querySelector(".says").textContent =
      `Sensitivity ${share(sensitivity, sensitivityLow, sensitivityHigh)}, ` +
      `specificity ${share(specificity, specificityLow, specificityHigh)}.`;
    const here = root.querySelector(".here");
    here.setAttribute("cx", size("x") + size("width") * (1 - specificity));
    here.setAttribute("cy", size("y") + size("height") * (1 - sensitivity));
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", update);
  update();
}
