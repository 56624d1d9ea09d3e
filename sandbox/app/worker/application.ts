/**
 * The application's routes over its tables, cut down to what touches the database.
 *
 *   GET    /health                      database and user the Worker is on
 *   GET    /api/config                  every configuration
 *   PUT    /api/config/:type            writes one (insert or update); the body is its `config`
 *   GET    /api/requests                the newest; ?limit=20&status=pending
 *   POST   /api/requests                a request, with `messages` in the same transaction
 *   GET    /api/requests/:id            a request with its messages
 *   PATCH  /api/requests/:id            changes columns of a request
 *   DELETE /api/requests/:id            a request with its messages
 *   POST   /api/requests/:id/messages   one more message
 *
 * What is answered with 200 was committed. What the database refuses is answered with its SQLSTATE, never with its text.
 */
import { asc, desc, eq, sql } from "drizzle-orm";
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres from "postgres";

import type * as full from "../src/schema";

export interface Env {
  HYPERDRIVE: { connectionString: string };
}

interface Context {
  waitUntil(promise: Promise<unknown>): void;
}

/** The tables as a release of the application knows them. */
export type Tables = Pick<typeof full, "appConfig" | "requestMessages"> & { featureRequests: any };

type Work = (database: PostgresJsDatabase, part: string, request: Request) => Promise<unknown>;

/** A Worker for the tables of one release. */
export function application(tables: Tables) {
  const routes = routesOver(tables);
  return {
    async fetch(request: Request, env: Env, context: Context): Promise<Response> {
      const path = new URL(request.url).pathname;
      for (const [method, pattern, work] of routes) {
        const matched = request.method === method ? pattern.exec(path) : null;
        if (matched) return answer(request, env, context, work, decodeURIComponent(matched[1] ?? ""));
      }
      return json({ error: "not found" }, 404);
    },
  };
}

async function answer(request: Request, env: Env, context: Context, work: Work, part: string): Promise<Response> {
  const client = postgres(env.HYPERDRIVE.connectionString, { max: 5, connect_timeout: 10, onnotice: () => {} });
  try {
    const found = await work(drizzle(client), part, request);
    return found === undefined ? json({ error: "not found" }, 404) : json(found);
  } catch (error) {
    const code = sqlState(error);
    if (!(code in STATUS)) console.error(`${request.method} ${new URL(request.url).pathname}: ${code}`);
    return json({ error: code }, STATUS[code] ?? (code.startsWith("22") ? 400 : 503));
  } finally {
    context.waitUntil(client.end({ timeout: 5 }).catch(() => {}));
  }
}

const STATUS: Record<string, number> = {
  "23502": 400, // not null
  "23503": 409, // foreign key
  "23505": 409, // unique
  "23514": 400, // check
  "invalid JSON": 400,
};

/** PostgreSQL's SQLSTATE or the driver's own code; drizzle-orm wraps the driver's error. */
function sqlState(error: unknown): string {
  for (let at = error as any; at; at = at.cause) {
    if (typeof at.code === "string") return at.code;
    if (at instanceof SyntaxError) return "invalid JSON";
  }
  return error instanceof Error ? error.name : "unknown";
}

function routesOver({ appConfig, featureRequests, requestMessages }: Tables): [string, RegExp, Work][] {
  const requests: any = featureRequests;
  const messagesOf = (id: string) => eq(requestMessages.requestId, id);

  return [
    [
      "GET",
      /^\/health$/,
      async (database) => {
        const [row] = await database.execute(sql`select current_database() as database, current_user::text as user`);
        return row;
      },
    ],
    ["GET", /^\/api\/config$/, async (database) => database.select().from(appConfig).orderBy(asc(appConfig.id))],
    [
      "PUT",
      /^\/api\/config\/([^/]+)$/,
      async (database, type, request) => {
        const config: unknown = await request.json();
        const [row] = await database
          .insert(appConfig)
          .values({ type: type as any, config })
          .onConflictDoUpdate({ target: appConfig.type, set: { config, updatedAt: new Date() } })
          .returning();
        return row;
      },
    ],
    [
      "GET",
      /^\/api\/requests$/,
      async (database, _, request) => {
        const asked = new URL(request.url).searchParams;
        const status = asked.get("status");
        return database
          .select()
          .from(requests)
          .where(status ? eq(requests.status, status) : undefined)
          .orderBy(desc(requests.id))
          .limit(Math.min(Number(asked.get("limit") ?? 20) || 20, 100));
      },
    ],
    [
      "POST",
      /^\/api\/requests$/,
      async (database, _, request) => {
        const { messages = [], ...values } = (await request.json()) as any;
        return database.transaction(async (transaction) => {
          const [row] = await transaction.insert(requests).values(values).returning();
          const added = messages.length
            ? await transaction
                .insert(requestMessages)
                .values(messages.map((message: any) => ({ ...message, requestId: values.requestId })))
                .returning()
            : [];
          return { ...row, messages: added };
        });
      },
    ],
    [
      "GET",
      /^\/api\/requests\/([^/]+)$/,
      async (database, id) => {
        const [row] = await database.select().from(requests).where(eq(requests.requestId, id));
        if (!row) return undefined;
        return { ...row, messages: await database.select().from(requestMessages).where(messagesOf(id)).orderBy(asc(requestMessages.id)) };
      },
    ],
    [
      "PATCH",
      /^\/api\/requests\/([^/]+)$/,
      async (database, id, request) => {
        const changes = { ...((await request.json()) as object), updatedAt: new Date() };
        const [row] = await database.update(requests).set(changes).where(eq(requests.requestId, id)).returning();
        return row;
      },
    ],
    [
      "DELETE",
      /^\/api\/requests\/([^/]+)$/,
      async (database, id) =>
        database.transaction(async (transaction) => {
          const gone = await transaction.delete(requestMessages).where(messagesOf(id)).returning({ id: requestMessages.id });
          const [row] = await transaction.delete(requests).where(eq(requests.requestId, id)).returning({ id: requests.id });
          return row && { ...row, messages: gone.length };
        }),
    ],
    [
      "POST",
      /^\/api\/requests\/([^/]+)\/messages$/,
      async (database, id, request) => {
        const [row] = await database
          .insert(requestMessages)
          .values({ ...((await request.json()) as any), requestId: id })
          .returning();
        return row;
      },
    ],
  ];
}

/** JSON has no bigint: such a column is shown as text. */
function json(value: unknown, status = 200): Response {
  const text = JSON.stringify(value, (_, item) => (typeof item === "bigint" ? item.toString() : item));
  return new Response(text, { status, headers: { "Content-Type": "application/json" } });
}
