/**
 * Runs Drizzle's own migrator, as the application's deployment does, and prints what it applied.
 *
 *   DATABASE_URL=... node migrate.mjs [--folder DIR] [--schema NAME]
 *
 * --folder  the migrations (default: drizzle/ beside this file)
 * --schema  where the tracking table lives (default: drizzle, as Drizzle has it)
 *
 * One line a migration, or "nothing to apply". Exits with 1, and says why, when the migrator fails.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { readMigrationFiles } from "drizzle-orm/migrator";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";

const { values: options } = parseArgs({
  options: {
    folder: { type: "string", default: fileURLToPath(new URL("drizzle", import.meta.url)) },
    schema: { type: "string", default: "drizzle" },
  },
});

/** Hashes in the tracking table, in the order of their rows; none where there is no such table. */
async function recordedHashes(sql) {
  const [{ tracking }] = await sql`
    select to_regclass(${`"${options.schema.replaceAll('"', '""')}".__drizzle_migrations`}) as tracking`;
  if (tracking === null) return [];
  return (await sql`select hash from ${sql(options.schema)}.__drizzle_migrations order by id`).map((row) => row.hash);
}

/** The journal's name of each migration, by the hash Drizzle records. */
function namesByHash() {
  const { entries } = JSON.parse(readFileSync(join(options.folder, "meta", "_journal.json"), "utf8"));
  const files = readMigrationFiles({ migrationsFolder: options.folder });
  return new Map(files.map((file, index) => [file.hash, entries[index].tag]));
}

if (!process.env.DATABASE_URL) {
  console.error("DATABASE_URL is not set: nothing was migrated.");
  process.exit(1);
}

const sql = postgres(process.env.DATABASE_URL, { max: 1, onnotice: () => {} });
try {
  const before = new Set(await recordedHashes(sql));
  await migrate(drizzle(sql), { migrationsFolder: options.folder, migrationsSchema: options.schema });
  const applied = (await recordedHashes(sql)).filter((hash) => !before.has(hash));
  const names = namesByHash();
  for (const hash of applied) console.log(`applied ${names.get(hash)}`);
  if (applied.length === 0) console.log("nothing to apply");
} catch (error) {
  const cause = error.cause ?? error;
  console.error(`The migrator failed: ${cause.message}${cause.code ? ` (${cause.code})` : ""}`);
  process.exitCode = 1;
} finally {
  await sql.end();
}
