function mpoxReview(id, decided) {
  "use strict";
  const root = document.getElementById(id);
  const pairs = Array.from(root.querySelectorAll(".mpox-review-pair"));
  const status = root.querySelector("[role=status]");
  const columns = ["datasetA", "imageIdA", "datasetB", "imageIdB"];
  const key = "mpox-review-" + root.dataset.name;
  let at = 0;
  let here = {};
  try { here = JSON.parse(localStorage.getItem(key)) || {}; } catch (error) { here = {}; }
  // what is in this browser counts as long as the file still says what it said when it was decided here
  const said = (pair) => (decided[pair] || {}).decision || "";
  const decisions = { ...decided };
  Object.entries(here).forEach(([pair, entry]) => {
    if ((entry.over || "") === said(pair)) { decisions[pair] = entry; }
  });

  const name = (pair) => columns.map((column) => pair.dataset[column]).join("\t");
  function keep(pair, decision) {
    here[name(pair)] = { decision: decision, reason: pair.querySelector("input").value, over: said(name(pair)) };
    decisions[name(pair)] = here[name(pair)];
    save();
  }

  const save = () => { try { localStorage.setItem(key, JSON.stringify(here)); } catch (error) { /* private window */ } };

  function show() {
    pairs.forEach((pair, number) => {
      pair.hidden = number !== at;
      const decided = decisions[name(pair)] || {};
      pair.querySelectorAll("[data-decide]").forEach((button) => {
        button.setAttribute("aria-pressed", String(button.dataset.decide === decided.decision));
      });
    });
    const count = pairs.filter((pair) => (decisions[name(pair)] || {}).decision).length;
    status.textContent = "Pair " + (at + 1) + " of " + pairs.length + ", " + count + " decided";
  }

  function go(step) {
    at = Math.min(Math.max(at + step, 0), pairs.length - 1);
    show();
  }

  function decide(pair, decision) {
    const entry = decisions[name(pair)] || {};
    const ours = (decided[name(pair)] || {}).ours;  // one that comes with the package can be turned, not withdrawn
    keep(pair, entry.decision === decision && !ours ? "" : decision);
    show();
  }

  const quoted = (text) => /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;

  function download() {
    const lines = ["dataset_a,image_id_a,dataset_b,image_id_b,decision,reason"];
    Object.entries(decisions).forEach(([pair, entry]) => {
      if (entry.decision && !entry.ours) {
        lines.push([...pair.split("\t"), entry.decision, entry.reason].map(quoted).join(","));
      }
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    link.download = "overrides.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  pairs.forEach((pair) => {
    const input = pair.querySelector("input");
    input.value = (decisions[name(pair)] || {}).reason || "";
    input.addEventListener("input", () => keep(pair, (decisions[name(pair)] || {}).decision || ""));
    pair.querySelectorAll("[data-decide]").forEach((button) => {
      button.addEventListener("click", () => decide(pair, button.dataset.decide));
    });
  });
  root.querySelectorAll("[data-go]").forEach((button) => button.addEventListener("click", () => go(Number(button.dataset.go))));
  root.querySelector("[data-download]").addEventListener("click", download);
  root.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) { return; }
    const act = {
      ArrowRight: () => go(1), ArrowLeft: () => go(-1),
      c: () => decide(pairs[at], "confirm"), p: () => decide(pairs[at], "same person"), r: () => decide(pairs[at], "reject"),
    }[event.key];
    if (act) { event.preventDefault(); event.stopPropagation(); act(); }
  });
  root.querySelectorAll(".mpox-review-bar, .mpox-review-decide").forEach((part) => { part.hidden = false; });
  show();
}
