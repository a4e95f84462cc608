"use strict";
// Pillow's bicubic resampling of bytes (a = -0.5, wider where it shrinks): the study's images went through it.
function mpoxResize(source, width, height, size) {
  const cubic = (x) => {
    const t = Math.abs(x);
    return t < 1 ? (1.5 * t - 2.5) * t * t + 1 : t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
  };
  const taps = (length) => Array.from({ length: size }, (_, place) => {
    const scale = length / size, wide = Math.max(scale, 1), centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 2 * wide + 0.5)), last = Math.min(length, Math.trunc(centre + 2 * wide + 0.5));
    const weights = Array.from({ length: last - first }, (_, k) => cubic((first + k - centre + 0.5) / wide));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
  const byte = (value) => Math.min(255, Math.max(0, Math.floor(value + 0.5)));
  const across = new Uint8Array(size * height * 3), out = new Uint8Array(size * size * 3);
  taps(width).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < 3; c++) {
        const sum = weights.reduce((total, weight, k) => total + weight * source[4 * (y * width + first + k) + c], 0);
        across[3 * (y * size + x) + c] = byte(sum);
      }
    }
  });
  taps(height).forEach(({ first, weights }, y) => {
    for (let x = 0; x < 3 * size; x++) {
      out[3 * size * y + x] = byte(weights.reduce((total, weight, k) => total + weight * across[3 * size * (first + k) + x], 0));
    }
  });
  return out;
}

function mpoxPage(id, about) {
  const root = document.getElementById(id), part = (name) => root.querySelector(`[data-part="${name}"]`);
  const action = (name) => root.querySelector(`[data-do="${name}"]`);
  const bar = root.querySelector("progress"), canvas = root.querySelector("canvas"), size = about.size;
  let session, seen, cancelled, running = 0;
  const percent = (p) => `${(100 * p).toFixed(p < 0.01 && p > 0 ? 1 : 0)} %`;
  const chosen = () => about.models[Number(root.querySelector("input[type=radio]:checked").value)];
  const fault = (text) => { part("fault").textContent = text; };
  const say = (text, share) => {
    part("progress").textContent = text;
    bar.hidden = share === undefined;
    bar.value = share || 0;
  };

  // ------------------------------------------------------------------------------------------- loading
  const script = (name) => new Promise((resolve, reject) => {
    const tag = Object.assign(document.createElement("script"), { src: `${about.folder}/${name}`, onload: resolve });
    tag.onerror = () => reject(new Error(`The file ${name} of this book is missing or damaged.`));
    document.head.append(tag);
  });
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const unpacked = (text) =>
    new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();

  async function load() {
    action("load").disabled = true;
    fault("");
    try {
      say("Loading the runtime …", 0.1);
      await script("ort.wasm.min.js");
      await script("runtime.js");
      say("Loading the model …", 0.4);
      await script("model.js");
      say("Unpacking …", 0.6);
      const { wasm, glue } = window.mpoxRuntime, { backbone, heads } = window.mpoxModel;
      Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary: await unpacked(wasm) });
      ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
      say("Starting …", 0.8);
      session = await ort.InferenceSession.create(new Uint8Array(await unpacked(backbone)), { executionProviders: ["wasm"] });
      about.models.forEach((model, k) => { model.numbers = new Float32Array(bytes(heads[k]).buffer); });
      delete window.mpoxRuntime;
      delete window.mpoxModel;
      say("The model is ready.");
      action("load").hidden = true;
      part("work").hidden = false;
    } catch (error) {
      say("");
      fault(`The model could not be started: ${error.message} Close other pages, or use another browser, and try again.`);
      action("load").disabled = false;
    }
  }

  // ------------------------------------------------------------------------------------------- asking
  const softmax = (values) => {
    const top = Math.max(...values), powers = values.map((value) => Math.exp(value - top));
    const total = powers.reduce((sum, power) => sum + power, 0);
    return powers.map((power) => power / total);
  };
  const dot = (numbers, row, other) => {
    let sum = 0;
    for (let k = 0; k < other.length; k++) { sum += numbers[row * other.length + k] * other[k]; }
    return sum;
  };

  async function features(pixels) {
    const input = new Float32Array(3 * size * size);
    for (let k = 0; k < size * size; k++) { for (let c = 0; c < 3; c++) { input[c * size * size + k] = pixels[3 * k + c]; } }
    const found = await session.run({ pictures: new ort.Tensor("float32", input, [1, 3, size, size]) });
    return found.features.data;
  }

  function judged(model, vector) {
    const n = model.classes.length, logits = model.intercepts.map((start, k) => start + dot(model.numbers, k, vector));
    const raw = softmax(logits), probabilities = softmax(raw.map((p) => Math.log(p) / model.temperature));
    const set = model.classes.filter((_, k) => {
      const worse = model.conformal[k].filter((score) => score >= 1 - raw[k]).length;
      return (worse + 1) / (model.conformal[k].length + 1) > (1 - about.confidence) * (1 + 1e-9);
    });
    const squared = model.classes.map((_, mean) => {
      const gap = Float32Array.from(vector, (value, k) => value - model.numbers[(n + mean) * vector.length + k]);
      let length = 0, along = 0;
      for (const value of gap) { length += value * value; }
      for (let row = 2 * n; row < model.numbers.length / vector.length; row++) { along += dot(model.numbers, row, gap) ** 2; }
      return model.novelty_scale * length - along;
    });
    return { probabilities, set, strange: Math.sqrt(Math.max(0, Math.min(...squared))) > model.novelty_threshold };
  }

  async function pixelsOf(blob) {
    const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
    const { width, height } = bitmap;
    if (Math.min(width, height) < about.least) { throw new Error(`a side needs at least ${about.least} pixels`); }
    if (width * height > about.most) { throw new Error(`it has more than ${about.most / 1e6} million pixels`); }
    const sheet = Object.assign(document.createElement("canvas"), { width, height });
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "white";  // what shines through is white, as in the study
    pen.fillRect(0, 0, width, height);
    pen.drawImage(bitmap, 0, 0);
    bitmap.close();
    return mpoxResize(pen.getImageData(0, 0, width, height).data, width, height, size);
  }

  function paint(pixels, changes) {
    const pen = canvas.getContext("2d"), image = pen.createImageData(size, size);
    for (let k = 0; k < size * size; k++) {
      for (let c = 0; c < 3; c++) { image.data[4 * k + c] = pixels[3 * k + c]; }
      image.data[4 * k + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
    const most = changes ? Math.max(...changes.map(Math.abs), 1e-9) : 1, cell = size / 7;
    (changes || []).forEach((change, k) => {
      pen.fillStyle = change > 0 ? `rgba(213, 94, 0, ${0.75 * change / most})` : `rgba(0, 114, 178, ${-0.75 * change / most})`;
      pen.fillRect((k % 7) * cell, Math.floor(k / 7) * cell, cell, cell);
    });
  }

  function alarms() {
    const share = Number(part("prevalence").value) / 100, model = chosen();
    if (!(share > 0 && share < 1)) {
      part("alarms").textContent = "type a number above 0 and below 100.";
      return;
    }
    const right = share * model.sensitivity, wrong = (1 - share) * (1 - model.specificity);
    part("alarms").textContent = `${Math.round(100 * wrong / (wrong + right))} of 100 alarms are false.`;
  }

  function tell() {
    const model = chosen(), { probabilities, set, strange } = judged(model, seen.vector);
    const several = set.length ? `Not sure: ${set.join(" or ")}.` : "Not sure: no class fits.";
    part("answer").textContent = strange ? "No answer." : set.length === 1 ? `One class is left: ${set[0]}.` : several;
    part("about").textContent = strange
      ? "This image is unlike those that the model learnt from. Below stands what it states all the same."
      : `Classes that cannot be excluded at a confidence of ${percent(about.confidence)}.`;
    part("rows").replaceChildren(...model.classes.map((label, k) => {
      const row = document.createElement("tr");
      row.append(...[label, percent(probabilities[k])].map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return row;
    }));
    const alarm = probabilities[model.classes.indexOf(model.positive)] >= model.threshold;
    part("warned").textContent = `${strange ? "No class is named for such an image." : alarm ? "An image like this raises an alarm." : "An image like this raises no alarm."} ${model.says}`;
    root.dataset.said = JSON.stringify({ probabilities, set, strange });
    alarms();
  }

  async function show(blob) {
    const mine = ++running;
    cancelled = true;
    fault("");
    say("Looking …", 0.5);
    try {
      const pixels = await pixelsOf(blob), vector = await features(pixels);
      if (mine !== running) { return; }
      seen = { pixels, vector };
      paint(pixels);
      part("map").textContent = "";
      part("shown").hidden = false;
      tell();
    } catch (error) {
      fault(`This file cannot be used (${error.message}): choose a JPEG, PNG or WebP image.`);
    }
    say("");
  }

  function forget() {
    running++;
    cancelled = true;
    seen = undefined;
    canvas.getContext("2d").clearRect(0, 0, size, size);
    for (const name of ["answer", "about", "alarms", "warned", "map"]) { part(name).textContent = ""; }
    part("rows").replaceChildren();
    for (const name of ["file", "camera"]) { part(name).value = ""; }
    delete root.dataset.said;
    part("shown").hidden = true;
    action("load").focus();
  }

  async function map() {
    const { pixels, vector } = seen, model = chosen(), before = judged(model, vector).probabilities, changes = [], cell = size / 7;
    const top = before.indexOf(Math.max(...before));
    cancelled = false;
    action("map").disabled = true;
    action("cancel").hidden = false;
    for (let k = 0; k < 49 && !cancelled; k++) {
      say(`Patch ${k + 1} of 49 …`, k / 49);
      const hidden = pixels.slice(), left = (k % 7) * cell, upper = Math.floor(k / 7) * cell;
      for (let y = upper; y < upper + cell; y++) { hidden.fill(128, 3 * (y * size + left), 3 * (y * size + left + cell)); }
      changes.push(before[top] - judged(model, await features(hidden)).probabilities[top]);
      await new Promise((resolve) => setTimeout(resolve));
    }
    say("");
    action("map").disabled = false;
    action("cancel").hidden = true;
    if (cancelled || !seen || seen.pixels !== pixels) { return; }
    paint(pixels, changes);
    const most = changes.indexOf(Math.max(...changes));
    part("map").textContent = `Orange: hiding this patch lowers the probability of ${model.classes[top]}; blue: it raises it. The largest `
      + `fall, by ${percent(Math.max(0, changes[most]))}, is in row ${Math.floor(most / 7) + 1}, column ${(most % 7) + 1} of 7. ${about.maps}`;
  }

  // ------------------------------------------------------------------------------------------- the page
  const lacks = ["WebAssembly", "DecompressionStream", "createImageBitmap"].filter((name) => !(name in window));
  if (lacks.length) {
    action("load").disabled = true;
    fault(`This browser lacks ${lacks.join(" and ")}: use a current one. The examples below were computed when the book was built.`);
  }
  action("load").addEventListener("click", load);
  action("forget").addEventListener("click", forget);
  action("map").addEventListener("click", map);
  action("cancel").addEventListener("click", () => { cancelled = true; });
  part("prevalence").addEventListener("input", alarms);
  root.querySelectorAll("input[type=radio]").forEach((one) => one.addEventListener("change", () => seen && tell()));
  root.querySelectorAll("[data-example]").forEach((button) => button.addEventListener("click", () => {
    show(new Blob([bytes(button.querySelector("img").src.split(",")[1])], { type: "image/png" }));
  }));
  for (const name of ["file", "camera"]) {
    part(name).addEventListener("change", (event) => event.target.files[0] && show(event.target.files[0]));
  }
  const given = (transfer) => session && Array.from(transfer.files).slice(0, 1).forEach(show);
  const drop = part("drop");
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.dataset.over = ""; });
  drop.addEventListener("dragleave", () => delete drop.dataset.over);
  drop.addEventListener("drop", (event) => { event.preventDefault(); delete drop.dataset.over; given(event.dataTransfer); });
  document.addEventListener("paste", (event) => given(event.clipboardData));
  document.querySelectorAll("form.bd-search").forEach((form) => form.addEventListener("submit", (event) => {
    event.preventDefault();  // this page lets no form go out; the search is a page of the book
    location.href = `${form.getAttribute("action")}?q=${encodeURIComponent(new FormData(form).get("q"))}`;
  }));
}
