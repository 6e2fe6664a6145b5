import { run } from "./driver.mjs"; await run(async () => {});
