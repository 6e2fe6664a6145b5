// Requests with a key.
const PATIENCE = 5000;
let key = null;

// What came of a request with the key, or an error in the gateway's own words.
async function asked(path, body) {
  const headers = { authorization: `Bearer ${key}` };
  if (body) headers["content-type"] = "application/json";
  const response = await fetch(path, {
    method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE),
  });
  const text = await response.text();
  let json = null;
  try { json = JSON.parse(text); } catch { /* It speaks in plain words. */ }
  if (response.ok) return json;
  const message = json?.error?.message ?? json?.error ?? text;
  throw new Error(typeof message === "string" && message ? message : `The gateway answers ${response.status}.`);
}
