import { useState } from "react";

// The badge is a custom element: React 19 renders it as any other, and its event is a property with `on` before it.
export function App() {
  const [state, setState] = useState("connecting");
  return (
    <main>
      <header>
        <h1>Ask me anything</h1>
        <steadfast-badge onsteadfast-change={(event) => setState(event.detail.state)} />
      </header>
      <textarea aria-label="Your question" rows={4} placeholder="Your question" />
      {/* What the application makes of it is its own affair. */}
      <button disabled={state === "unavailable"}>{state === "unavailable" ? "Back in a moment" : "Ask"}</button>
    </main>
  );
}
