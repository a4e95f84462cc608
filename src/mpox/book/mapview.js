function mpoxMap(id, data) {
  "use strict";
  const root = document.getElementById(id);
  const picture = root.querySelector("svg");
  const marks = Array.from(picture.querySelectorAll("use"));
  const ring = picture.querySelector(".mpox-map-here");
  const said = root.querySelector(".mpox-map-said");
  const legend = root.querySelector(".mpox-map-legend");
  const bar = root.querySelector(".mpox-map-buttons");
  const points = marks.map((mark) => ({ x: Number(mark.getAttribute("x")), y: Number(mark.getAttribute("y")) }));
  let here = -1;

  function show(index) {
    here = index;
    const [name, label, predicted, probability, outcome, source] = data.rows[index];
    ring.setAttribute("cx", points[index].x);
    ring.setAttribute("cy", points[index].y);
    ring.removeAttribute("visibility");
    said.textContent = `${name} (${source}): class ${label}, predicted ${predicted} with probability ${probability}, ${outcome}.`;
  }

  function colourBy(key) {
    const column = data.columns[key];
    const palette = data.colours[key];
    marks.forEach((mark, index) => mark.setAttribute("fill", palette[data.rows[index][column]]));
    legend.replaceChildren(...Object.keys(palette).map((value) => {
      const item = document.createElement("li");
      const sample = document.createElementNS(picture.namespaceURI, "svg");
      sample.setAttribute("viewBox", "-1.2 -1.2 2.4 2.4");
      sample.setAttribute("aria-hidden", "true");
      const use = document.createElementNS(picture.namespaceURI, "use");
      use.setAttribute("href", `#${id}-${key === "class" ? data.shapes[value] : 0}`);
      use.setAttribute("fill", palette[value]);
      sample.append(use);
      item.append(sample, value);
      return item;
    }));
    Array.from(bar.children).forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.key === key)));
  }

  function nearest(x, y, allowed) {
    let best = -1;
    let least = Infinity;
    points.forEach((point, index) => {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance < least && allowed(point, index)) { best = index; least = distance; }
    });
    return [best, least];
  }

  function towards(key) {
    const from = points[here];
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const [found] = nearest(from.x, from.y, (point, index) => {
      const along = (point.x - from.x) * dx + (point.y - from.y) * dy;
      const across = Math.abs((point.x - from.x) * dy) + Math.abs((point.y - from.y) * dx);
      return index !== here && along > 0 && across <= along;
    });
    return found;
  }

  function step(by, wanted) {
    for (let count = 1; count <= marks.length; count += 1) {
      const index = (here + by * count + marks.length * count) % marks.length;
      if (wanted(data.rows[index])) { return index; }
    }
    return -1;
  }

  Object.keys(data.colours).forEach((key) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.key = key;
    button.textContent = `Colour by ${key}`;
    button.addEventListener("click", () => colourBy(key));
    bar.append(button);
  });
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const size = picture.viewBox.baseVal;
    const [found, distance] = nearest(
      (event.clientX - box.left) / box.width * size.width, (event.clientY - box.top) / box.height * size.height, () => true);
    if (distance < 9) { show(found); }
  });
  picture.addEventListener("focus", () => { if (here < 0) { show(0); } });
  picture.addEventListener("keydown", (event) => {
    let found = -1;
    if (here < 0) { found = 0; }
    else if (event.key.startsWith("Arrow")) { found = towards(event.key); }
    else if (event.key === "Home") { found = 0; }
    else if (event.key === "End") { found = marks.length - 1; }
    else if (event.key === "w") { found = step(1, (row) => row[data.columns.outcome] === "wrong"); }
    else if (event.key === "W") { found = step(-1, (row) => row[data.columns.outcome] === "wrong"); }
    else { return; }
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    event.preventDefault();
    if (found >= 0) { show(found); }
  });
  colourBy("class");
}
