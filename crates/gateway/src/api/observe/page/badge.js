// <steadfast-badge>: who serves at the moment, on any page.
//
//   <script src="https://gateway.example/badge.js" defer></script>
//   <steadfast-badge></steadfast-badge>
//
// It asks `/status` of the gateway every 5 s while the page can be seen: with no cookie and no key, which that path does not
// want. It is green where first tiers serve, yellow for a fallback ("running on fallback, quality may differ") and where some
// requests fail, red where none is answered or people take them, and gray before the first request ("no request yet") and
// where the gateway does not answer ("connecting"). It tells the worst of the chains that were asked lately.
//
// Attribute
//   gateway             where the gateway is. Default: where this script came from. A module has no such place: whoever
//                       imports this file, or serves a copy of it, sets the attribute.
// Set by the badge
//   data-state          connecting, untried (no request yet), primary, fallback, degraded (a fallback whose answers are reduced),
//                       people (callers get a task), failing (callers' requests fail, whoever serves) or unavailable. With
//                       `steadfast-badge[data-state=primary] { display: none }` it is seen only when there is news.
// Event
//   steadfast-change    it is in another state, or another tier serves. `event.detail` has `state`, and where the gateway
//                       answers `activeModel` and `primaryModel`, the models' ids, and `activeTier` and `primaryTier`, the
//                       tiers' names. It bubbles.
// CSS part
//   badge               the badge: `steadfast-badge::part(badge) { border-radius: 0 }`. Its colors are those of the page's
//                       `color-scheme`, light or dark; its font is the host element's, to be set there.
//
// A page with a Content-Security-Policy allows the gateway in `script-src` and `connect-src`, and nothing else.
(() => {
  "use strict";
  const EVERY = 5000, PATIENCE = 5000;
  // What is older than this, in milliseconds, is not shown as how it is.
  const OLD = 15000;
  const HOME = document.currentScript?.src ? new URL(".", document.currentScript.src).href : "/";
  const STYLE = `
    :host { display: inline-block; font: 600 .875rem/1.4 system-ui, sans-serif; }
    :host([hidden]) { display: none; }
    span { display: inline-block; padding: .125rem .625rem; border-radius: 1rem; overflow-wrap: anywhere;
      background: #e4e7ec; color: #333b47; background: light-dark(#e4e7ec, #2c343f); color: light-dark(#333b47, #dbe1e9); }
    span::before { content: ""; display: inline-block; width: .5em; height: .5em; margin-right: .5em; border-radius: 50%;
      background: currentColor; }
    [data-state=primary] { background: #d3f2dc; color: #0c4a22; background: light-dark(#d3f2dc, #114324); color: light-dark(#0c4a22, #c9f5d7); }
    [data-state=fallback], [data-state=degraded], [data-state=failing] { background: #ffedb8; color: #573e00;
      background: light-dark(#ffedb8, #4a3800); color: light-dark(#573e00, #ffe9a8); }
    [data-state=people], [data-state=unavailable] { background: #fcdcd9; color: #7d120b; background: light-dark(#fcdcd9, #5c1611); color: light-dark(#7d120b, #ffdcd8); }
  `;
  const NOTICE = "running on fallback, quality may differ";
  const WORDS = {
    untried: () => "no request yet",
    primary: (model) => model,
    fallback: (model) => `${model}: ${NOTICE}`,
    degraded: (model) => `${model}: ${NOTICE}`,
    people: () => "people take requests",
    failing: (model) => `${model}: some requests fail`,
    unavailable: () => "unavailable",
    connecting: () => "connecting",
  };
  const CONNECTING = { state: "connecting" };

  class SteadfastBadge extends HTMLElement {
    static observedAttributes = ["gateway"];
    #label = document.createElement("span");
    #shown = CONNECTING;
    #answered = 0;
    #timer = 0;
    #turn = 0;
    #seen = () => { if (!document.hidden) this.#poll(); };

    constructor() {
      super();
      const root = this.attachShadow({ mode: "open" });
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
      root.adoptedStyleSheets = [sheet];
      this.#label.setAttribute("role", "status");
      this.#label.part = "badge";
      root.append(this.#label);
      this.#label.textContent = this.#label.dataset.state = "connecting";
    }

    connectedCallback() {
      document.addEventListener("visibilitychange", this.#seen);
      this.dataset.state = this.#shown.state;
      this.#poll();
    }

    disconnectedCallback() {
      document.removeEventListener("visibilitychange", this.#seen);
      clearTimeout(this.#timer);
      this.#turn += 1;
    }

    attributeChangedCallback() {
      // What is shown is another gateway's.
      this.#answered = 0;
      if (this.isConnected) this.#poll();
    }

    #show({ state, activeModel, activeTier, primaryModel, primaryTier }) {
      const shown = this.#shown;
      this.#shown = { state, activeModel, activeTier, primaryModel, primaryTier };
      // The same words again would be read aloud again.
      const text = (WORDS[state] ?? ((model) => `${model}: ${state}`))(activeModel);
      if (this.#label.textContent !== text) this.#label.textContent = text;
      this.#label.dataset.state = this.dataset.state = state;
      if (shown.state === state && shown.activeModel === activeModel && shown.activeTier === activeTier) return;
      this.dispatchEvent(new CustomEvent("steadfast-change", { detail: this.#shown, bubbles: true, composed: true }));
    }

    #url() {
      const gateway = new URL(this.getAttribute("gateway") || HOME, document.baseURI);
      // What is below a path stays below it.
      if (!gateway.pathname.endsWith("/")) gateway.pathname += "/";
      return new URL("status", gateway);
    }

    async #poll() {
      clearTimeout(this.#timer);
      const turn = (this.#turn += 1);
      // The page may have slept.
      if (Date.now() - this.#answered > OLD) this.#show(CONNECTING);
      let status = CONNECTING;
      try {
        const response = await fetch(this.#url(), { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE) });
        const answer = await response.json();
        // The status of a gateway where nothing serves has the code 503.
        if ((response.ok || response.status === 503) && typeof answer?.state === "string") status = answer;
      } catch {
        // Nobody answers: it is connecting, and asks again.
      }
      if (turn !== this.#turn || !this.isConnected) return;
      if (status !== CONNECTING) this.#answered = Date.now();
      this.#show(status);
      if (!document.hidden) this.#timer = setTimeout(() => this.#poll(), EVERY);
    }
  }
  if (!customElements.get("steadfast-badge")) customElements.define("steadfast-badge", SteadfastBadge);
})();
