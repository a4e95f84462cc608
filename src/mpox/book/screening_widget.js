function mpoxScreeningCosts(prevalence, pairs, costs) {
  "use strict";
  const quantile = (sorted, share) => {
    const place = share * (sorted.length - 1), below = Math.floor(place);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
  };
  const [sensitivities, specificities] = pairs;
  const all = sensitivities.map((sensitivity, k) =>
    costs.picture + (1 - prevalence) * (1 - specificities[k]) * costs.false_alarm + prevalence * (1 - sensitivity) * costs.missed);
  const replicates = all.slice(1).sort((a, b) => a - b);
  const everyone = (1 - prevalence) * costs.false_alarm, nobody = prevalence * costs.missed;
  const missed = 1000 * prevalence * (1 - sensitivities[0]);
  return {
    rows: [[all[0], quantile(replicates, 0.025), quantile(replicates, 0.975)], [everyone, everyone, everyone], [nobody, nobody, nobody]],
    ill: 1000 * prevalence, missed: missed, alarms: 1000 * (1 - prevalence) * (1 - specificities[0]),
  };
}

function mpoxScreening(id, points) {
  "use strict";
  const root = document.getElementById(id);
  const form = root.querySelector("form");
  const field = (name) => form.elements.namedItem(name);

  function update() {
    const costs = {};
    for (const name of ["picture", "false_alarm", "missed"]) {
      costs[name] = parseFloat(field(name).value);
      if (!(costs[name] >= 0)) { return; }  // being typed
    }
    const prevalence = Math.pow(10, parseFloat(field("place").value));
    field("prevalence").value = `${(100 * prevalence).toPrecision(2)} %`;
    const found = mpoxScreeningCosts(prevalence, points[field("point").value], costs);
    const cheapest = found.rows.reduce((best, row, k) => (row[0] < found.rows[best][0] ? k : best), 0);
    Array.from(root.querySelector("tbody").rows).forEach((line, k) => {
      const [estimate, low, high] = found.rows[k].map((value) => value.toFixed(2));
      line.cells[1].textContent = estimate;
      line.cells[2].textContent = `${low} to ${high}`;
      line.className = k === cheapest ? "cheapest" : "";
    });
    root.querySelector(".people").textContent =
      `Of 1000 people ${found.ill.toFixed(1)} have Mpox: the model finds ${(found.ill - found.missed).toFixed(1)}, ` +
      `misses ${found.missed.toFixed(1)}, and sends on ${found.alarms.toFixed(1)} of the others.`;
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", update);
  update();
}
