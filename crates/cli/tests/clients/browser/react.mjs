// The React example, built as its users would build it, and served from an origin of its own.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { SOON, ask, check, clean, looks, opened, run, wish } from "./driver.mjs";

const KINDS = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css" };

await run(async (context, gateway) => {
  const { EXAMPLE } = process.env;
  const env = { ...process.env, VITE_GATEWAY: gateway };
  execFileSync(process.execPath, [join(EXAMPLE, "node_modules/vite/bin/vite.js"), "build", "--logLevel", "error"], { cwd: EXAMPLE, env, stdio: ["ignore", "ignore", "inherit"] });
  const server = createServer((request, response) => {
    const path = request.url === "/" ? "/index.html" : request.url;
    response.writeHead(200, { "content-type": KINDS[extname(path)] }).end(readFileSync(join(EXAMPLE, "dist", path)));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const url = `http://127.0.0.1:${server.address().port}/`;

  const page = await opened(context, url, [new URL(url).origin, gateway]);
  const badge = (state) => page.waitForSelector(`steadfast-badge[data-state=${state}]`);
  const button = (name) => page.getByRole("button", { name, exact: true });
  await badge("untried");
  check(await button("Ask").isEnabled(), "it serves");
  await wish("fail primary");
  await ask(gateway, "chat", 8);
  await badge("fallback");
  check(await button("Ask").isEnabled(), "it serves");
  clean(page);
  await looks(page, "14-react");

  await wish("fail backup");
  const unavailable = badge("unavailable");
  let seen = false;
  unavailable.then(() => { seen = true; }, () => {});
  for (const end = Date.now() + SOON; !seen && Date.now() < end;) await Promise.all([ask(gateway, "chat", 4), page.waitForTimeout(300)]);
  await button("Back in a moment").waitFor();
  check(await button("Back in a moment").isDisabled(), "the application knows");
  clean(page);
});
