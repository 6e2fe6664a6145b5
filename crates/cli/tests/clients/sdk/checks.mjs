// What the scripts of this folder share: packages, checks that are counted, and words that both sides know.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import assert from "node:assert";

// The packages are where the test says, which is the script's last argument, not beside this file.
export const require = createRequire(process.argv.at(-1) + "/");
export const load = (name) => import(pathToFileURL(require.resolve(name)));

export const apiKey = "sk-of-the-caller";
export const SAID = "Hello from afar, and all is well";
export const feature = (name) => ({ headers: { "x-steadfast-feature": name } });
export const person = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
let failed = 0;

// Runs a check, and says how it went.
export async function check(name, run) {
  const begun = Date.now();
  try {
    await run();
    console.log(`ok   ${name} (${(Date.now() - begun) / 1000} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error.constructor.name}: ${error.message}`);
  }
}

// Returns the error of a call, which is of this class and comes without a long wait: after two short repeats at most.
export async function throws(kind, run) {
  const begun = Date.now();
  try {
    await run();
  } catch (error) {
    assert.ok(error instanceof kind, `${error.constructor.name} is no ${kind.name}: ${error.message}`);
    assert.ok(Date.now() - begun < 5000, "it took a long wait");
    return error;
  }
  assert.fail("no error");
}

// Ends the script, with a failure if a check failed.
export const end = () => process.exit(failed ? 1 : 0);
