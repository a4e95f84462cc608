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
    const share = (value, low, high) => `${value.toFixed(2)} (95 % interval ${low.toFixed(2)} to ${high.toFixed(2)})`;
    root.querySelector(".says").textContent =
      `Sensitivity ${share(sensitivity, sensitivityLow, sensitivityHigh)}, ` +
      `specificity ${share(specificity, specificityLow, specificityHigh)}.`;
    root.querySelector(".alarms").textContent = alarms(Number(field("prevalence").value), sensitivity, specificity);
    const here = root.querySelector(".here");
    here.setAttribute("cx", size("x") + size("width") * (1 - specificity));
    here.setAttribute("cy", size("y") + size("height") * (1 - sensitivity));
  }

  function alarms(percent, sensitivity, specificity) {
    if (!(percent >= 0.1 && percent <= 50)) return "Give a prevalence from 0.1 to 50 %.";
    const wrong = (100 - percent) * (1 - specificity);
    const right = percent * sensitivity;
    const here = `Where ${percent} % have Mpox, `;
    if (wrong + right === 0) return `${here}nobody is called Mpox at this threshold.`;
    return `${here}${(100 * wrong / (wrong + right)).toFixed(0)} of 100 alarms are false.`;
  }

  function nearest(x, y) {
    let best = { distance: Infinity };
    Object.entries(curves).forEach(([name, rows]) => rows.forEach((row, number) => {
      const distance = Math.hypot(1 - row[3] - x, row[0] - y);
      if (distance < best.distance) best = { distance, name, number };
    }));
    return best;
  }

  root.querySelector("svg").addEventListener("click", (event) => {
    const box = frame.getBoundingClientRect();
    const point = nearest((event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height);
    field("curve").value = point.name;
    field("threshold").value = point.number;
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", update);
  update();
}
