/**
 * Runs the Worker in workerd on this machine, with its Hyperdrive binding on a connection string of the caller's.
 *
 *   WORKER_DATABASE_URL=postgresql://... node worker/serve.mjs [--release before] [--port 8787]
 *
 * --release  index (default) or before: the file beside this one that is served
 * --port     on the loopback address; a free one unless given
 *
 * Prints `ready http://127.0.0.1:PORT` once requests are answered. Ends, and workerd with it, when it is asked to (SIGTERM, SIGINT) and
 * when its input ends, which it does when whoever started it is gone.
 */
import { readFileSync } from "node:fs";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { build } from "esbuild";
import { Miniflare } from "miniflare";

const { values: options } = parseArgs({
  options: { release: { type: "string", default: "index" }, port: { type: "string", default: "0" } },
});
const connectionString = process.env.WORKER_DATABASE_URL;
if (!connectionString) {
  console.error("WORKER_DATABASE_URL is not set: nothing was started.");
  process.exit(1);
}

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const wrangler = JSON.parse(readFileSync(here("../wrangler.jsonc"), "utf8"));

/** The Worker as one module, resolved as for workerd: postgres.js has a build of its own for it. */
async function bundle() {
  const { outputFiles } = await build({
    entryPoints: [here(`${options.release}.ts`)],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    conditions: ["workerd", "worker", "browser"],
    mainFields: ["browser", "module", "main"],
    external: ["node:*", "cloudflare:*"],
    logLevel: "error",
  });
  return outputFiles[0].text;
}

/**
 * Miniflare (4.20260426) passes a Hyperdrive connection on through two sockets without an error handler: a database that ends one would
 * end this process, or leave the Worker waiting. Whatever ends one of the two ends the other.
 */
const connect = net.connect;
net.connect = (...target) => {
  const database = connect(...target);
  database.on("pipe", (worker) => {
    for (const [one, other] of [
      [database, worker],
      [worker, database],
    ]) {
      one.on("error", () => {}); // "close" follows it
      one.on("close", () => other.end());
    }
  });
  return database;
};

const miniflare = new Miniflare({
  name: wrangler.name,
  host: "127.0.0.1",
  port: Number(options.port),
  modules: [{ type: "ESModule", path: "worker.mjs", contents: await bundle() }],
  compatibilityDate: wrangler.compatibility_date,
  compatibilityFlags: wrangler.compatibility_flags,
  hyperdrives: Object.fromEntries(wrangler.hyperdrive.map(({ binding }) => [binding, connectionString])),
  cf: false, // what Cloudflare would tell of a request is downloaded otherwise
});

let ending;
function end() {
  ending ??= miniflare.dispose().finally(() => process.exit(0));
}
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, end);
process.stdin.on("end", end).on("error", end).resume();

console.log(`ready ${(await miniflare.ready).href.replace(/\/$/, "")}`);
