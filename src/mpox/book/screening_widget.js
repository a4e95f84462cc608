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
  return {
    rows: [[all[0], quantile(replicates, 0.025), quantile(replicates, 0.975)], [everyone, everyone, everyone], [nobody, nobody, nobody]],
    says: mpoxScreeningPeople(prevalence, sensitivities[0], specificities[0]),
  };
}

function mpoxScreeningPeople(prevalence, sensitivity, specificity) {
  "use strict";
  const people = 10000, word = (count) => count.toLocaleString("en-GB");
  const ill = Math.floor(people * prevalence + 0.5);
  const missed = Math.floor(people * prevalence * (1 - sensitivity) + 0.5);
  const alarms = Math.floor(people * (1 - prevalence) * (1 - specificity) + 0.5), total = alarms + ill - missed;
  const wrong = total ? `Of 100 alarms ${Math.floor(100 * alarms / total + 0.5)} are false.` : "No alarm.";
  return `Of ${word(people)} people ${word(ill)} have Mpox: the model finds ${word(ill - missed)}, misses ${word(missed)}, ` +
    `and sends on ${word(alarms)} of the others. ${wrong}`;
}

function mpoxScreening(id, points) {
  "use strict";
  const root = document.getElementById(id);
  const form = root.querySelector("form");
  const field = (name) => form.elements.namedItem(name);

  function update() {
    const costs = {}, wrong = [];
    for (const [name, label] of [["picture", "an image"], ["false_alarm", "a false alarm"], ["missed", "a missed case"]]) {
      costs[name] = parseFloat(field(name).value);
      const valid = Number.isFinite(costs[name]) && costs[name] >= 0;
      field(name).setAttribute("aria-invalid", String(!valid));
      if (!valid) { wrong.push(label); }
    }
    const what = wrong.join(" and of ");
    root.querySelector(".invalid").textContent =
      wrong.length ? `The cost of ${what} must be a number, at least 0. Until then the table keeps the last valid costs.` : "";
    if (wrong.length) { return; }
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
    root.querySelector(".people").textContent = found.says;
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", update);
  update();
}
