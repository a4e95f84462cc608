function mpoxQuiz(id) {
  "use strict";
  const form = document.getElementById(id);
  const groups = Array.from(form.querySelectorAll("fieldset"));
  const score = form.querySelector(".mpox-quiz-score");
  const firstTries = new Map();
  form.addEventListener("submit", (event) => event.preventDefault());

  function check(group) {
    const chosen = group.querySelector("input:checked");
    const reply = group.querySelector(".mpox-quiz-reply");
    group.querySelectorAll("label").forEach((label) => label.removeAttribute("data-verdict"));
    if (!chosen) {
      reply.textContent = "Choose an answer first.";
      return;
    }
    const right = chosen.dataset.right === "true";
    if (!firstTries.has(group)) { firstTries.set(group, right); }
    chosen.closest("label").dataset.verdict = right ? "right" : "wrong";
    reply.textContent = (right ? "Right. " : "Not this one. ") + chosen.dataset.why;
    const count = Array.from(firstTries.values()).filter(Boolean).length;
    score.textContent = `${count} of ${firstTries.size} answered right at the first try; ${groups.length - firstTries.size} left.`;
  }

  groups.forEach((group, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Check";
    button.setAttribute("aria-label", `Check question ${index + 1}`);
    button.addEventListener("click", () => check(group));
    group.querySelector(".mpox-quiz-reply").before(button);
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.type !== "radio") { return; }
      event.preventDefault();
      check(group);
    });
  });
}
