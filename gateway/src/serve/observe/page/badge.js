// <steadfast-badge>: who serves at the moment, on any page.
//
//   <script src="https://gateway.example/badge.js" defer></script>
//   <steadfast-badge></steadfast-badge>
//
// It asks the gateway that this script came from, or the one in the attribute `gateway`, every 5 s while it can be seen.
(() => {
  "use strict";
  const EVERY = 5000, PATIENCE = 5000;
  const HOME = document.currentScript ? new URL(".", document.currentScript.src).href : "/";
  const STYLE = `
    :host { display: inline-block; font: 600 .875rem/1.4 system-ui, sans-serif; }
    span { display: inline-block; padding: .125rem .625rem; border-radius: 1rem; overflow-wrap: anywhere;
      background: #e4e7ec; color: #333b47; }
    [data-state=primary] { background: #d3f2dc; color: #0c4a22; }
    [data-state=fallback], [data-state=degraded] { background: #ffedb8; color: #573e00; }
    [data-state=unavailable] { background: #fcdcd9; color: #7d120b; }
  `;
  const NOTICE = "running on fallback, quality may differ";
  const WORDS = {
    primary: (model) => model,
    fallback: (model) => `${model}: ${NOTICE}`,
    degraded: (model) => `${model}: ${NOTICE}`,
    unavailable: () => "unavailable",
  };

  class SteadfastBadge extends HTMLElement {
    static observedAttributes = ["gateway"];
    #label = document.createElement("span");
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
      this.#show("connecting", "connecting");
    }

    connectedCallback() {
      document.addEventListener("visibilitychange", this.#seen);
      this.#poll();
    }

    disconnectedCallback() {
      document.removeEventListener("visibilitychange", this.#seen);
      clearTimeout(this.#timer);
      this.#turn += 1;
    }

    attributeChangedCallback() {
      if (this.isConnected) this.#poll();
    }

    #show(state, text) {
      const changed = this.dataset.state !== undefined && this.dataset.state !== state;
      this.#label.dataset.state = state;
      // The same words again would be read aloud again.
      if (this.#label.textContent !== text) this.#label.textContent = text;
      if (this.isConnected) this.dataset.state = state;
      if (changed) this.dispatchEvent(new CustomEvent("steadfast-change", { detail: { state }, bubbles: true, composed: true }));
    }

    async #poll() {
      clearTimeout(this.#timer);
      const turn = (this.#turn += 1);
      let state = "connecting", text = "connecting";
      try {
        const at = new URL("status", new URL(this.getAttribute("gateway") || HOME, document.baseURI));
        const response = await fetch(at, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE) });
        const status = await response.json();
        if (response.ok) [state, text] = [status.state, (WORDS[status.state] || String)(status.activeModel)];
      } catch {
        // Nobody answers: it is connecting, and asks again.
      }
      if (turn !== this.#turn || !this.isConnected) return;
      this.#show(state, text);
      if (!document.hidden) this.#timer = setTimeout(() => this.#poll(), EVERY);
    }
  }
  if (!customElements.get("steadfast-badge")) customElements.define("steadfast-badge", SteadfastBadge);
})();
