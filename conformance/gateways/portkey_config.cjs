// Portkey takes its providers from a header of each request. Judges send none, so this gives each request without one the
// configuration of benches/gateway, before Portkey reads it.

const { Server } = require("node:http");

const target = (provider, address) => ({ provider, custom_host: `http://${address}/v1`, api_key: "sk-judge" });
const config = (provider) =>
  JSON.stringify({
    strategy: { mode: "fallback", on_status_codes: [408, 429, 500, 502, 503, 504] },
    request_timeout: 30000,
    targets: [process.env.PORTKEY_PRIMARY, process.env.PORTKEY_FALLBACK].map((address) => target(provider, address)),
  });
const [anthropic, openai] = [config("anthropic"), config("openai")];

const emit = Server.prototype.emit;
Server.prototype.emit = function (event, request, ...rest) {
  if (event === "request" && !request.headers["x-portkey-config"]) {
    const value = request.url.startsWith("/v1/messages") ? anthropic : openai;
    request.headers["x-portkey-config"] = value;
    request.rawHeaders.push("x-portkey-config", value);
  }
  return emit.call(this, event, request, ...rest);
};
