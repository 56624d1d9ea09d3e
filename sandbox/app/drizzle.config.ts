import { config } from "dotenv";
import { defineConfig } from "drizzle-kit";

// The application reads its URLs from `.env`; a variable that is set already wins.
config({ quiet: true });

export default defineConfig({
  dialect: "postgresql",
  schema: "./src/schema.ts",
  out: "./drizzle",
  dbCredentials: { url: process.env.MASTER_DATABASE_URL ?? "" },
});
