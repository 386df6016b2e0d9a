// @ts-check
// The button that stops the microscope. This file needs neither the bundle nor WebGL, so the button works where they
// fail. It also tells when the rest of the page did not start.
(() => {
  "use strict";
  const KEY = "bathyscope-access-key";
  const PATIENCE_MS = 5000;
  const SHOWN_MS = 15_000;
  const START_PATIENCE_MS = 10_000;

  const button = /** @type {HTMLButtonElement} */ (document.getElementById("stop-microscope"));
  const bar = /** @type {HTMLElement} */ (document.getElementById("stop-bar"));
  const words = /** @type {HTMLElement} */ (document.getElementById("stop-words"));
  const said = /** @type {HTMLElement} */ (document.getElementById("stop-said"));
  const label = button.textContent ?? "";
  let attempt = 0;
  let clear = 0;

  /** @param {string} text @param {"bad" | "good"} tone */
  function showBar(text, tone) {
    words.textContent = text;
    bar.dataset["tone"] = tone;
    bar.hidden = false;
  }

  /** @param {string} text */
  function say(text) {
    said.textContent = text;
    clearTimeout(clear);
    clear = window.setTimeout(() => (said.textContent = ""), SHOWN_MS);
  }

  function clock() {
    return new Date().toLocaleTimeString("en-GB");
  }

  async function stop() {
    const number = ++attempt;
    const begun = clock();
    button.textContent = "Stopping …";
    button.setAttribute("aria-busy", "true");
    said.textContent = "";
    let answered = false;
    const late = window.setTimeout(() => {
      if (answered || number !== attempt) return;
      finish();
      showBar(
        `Stop sent at ${begun}: not confirmed, no answer for 5 s. Use the stop or the switch of the microscope itself if anything still moves.`,
        "bad",
      );
    }, PATIENCE_MS);
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json, application/problem+json" };
    const key = sessionStorage.getItem(KEY);
    if (key) headers["Authorization"] = `Bearer ${key}`;
    try {
      const response = await fetch(new URL("api/v1/microscope/stop", document.baseURI), { method: "POST", headers, cache: "no-store" });
      const answer = await response.json().catch(() => ({}));
      answered = true;
      clearTimeout(late);
      if (response.ok && answer.confirmed) {
        finish();
        say(`Stopped, confirmed ${clock()}`);
        if (!bar.hidden && bar.dataset["tone"] === "bad") showBar(`Stop sent at ${begun}, confirmed at ${clock()}: ${answer.detail}`, "good");
      } else {
        finish();
        const reason = answer.detail ?? answer.problem ?? `The service answered with status ${response.status}.`;
        showBar(`Stop sent at ${begun}: not confirmed. ${reason} ${answer.remedy ?? ""}`.trim(), "bad");
      }
    } catch {
      answered = true;
      clearTimeout(late);
      finish();
      showBar(
        `Stop pressed at ${begun}: not sent, because the service does not answer. Use the stop or the switch of the microscope itself.`,
        "bad",
      );
    }
  }

  function finish() {
    button.textContent = label;
    button.removeAttribute("aria-busy");
  }

  button.addEventListener("click", () => void stop());
  document.getElementById("stop-dismiss")?.addEventListener("click", () => (bar.hidden = true));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey && event.key === ".") {
      event.preventDefault();
      void stop();
    }
  });

  function notStarted() {
    const place = document.getElementById("page");
    if (document.body.dataset["page"] === "started" || !place) return;
    place.textContent =
      "The page did not start. Reload it, or use another browser. The button Stop microscope works all the same; the service itself is not affected.";
    place.className = "broken";
  }
  window.addEventListener("error", (event) => event.target instanceof HTMLScriptElement && notStarted(), true);
  window.setTimeout(notStarted, START_PATIENCE_MS);
})();
