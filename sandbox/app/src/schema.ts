/**
 * The application's tables as they are once every migration in `drizzle/` has been applied.
 *
 * After a change, `npx drizzle-kit generate --name <what_it_does>` writes the next migration.
 */
import { bigint, integer, jsonb, pgEnum, pgTable, text, timestamp } from "drizzle-orm/pg-core";

export const requestStatus = pgEnum("request_status", [
  "pending",
  "issue_created",
  "processing",
  "awaiting_clarification",
  "pr_created",
  "completed",
  "cancelled",
  "error",
]);
export const taskStatus = pgEnum("task_status", ["pending", "processing", "completed", "error"]);
export const configType = pgEnum("config_type", ["github", "claude", "slack"]);
export const requestOrigin = pgEnum("request_origin", ["slack", "github_issue", "web"]);
export const messageType = pgEnum("message_type", [
  "initial_request",
  "clarification_ask",
  "clarification_answer",
  "follow_up_request",
  "processing_started",
  "processing_update",
  "pr_created",
  "pr_updated",
  "error",
  "retry",
  "cancelled",
  "agent_thinking",
  "agent_tool_call",
  "agent_tool_result",
  "agent_file_change",
  "agent_terminal",
  "agent_summary",
]);
export const messageSource = pgEnum("message_source", ["slack", "github", "web", "system"]);
export const agentType = pgEnum("agent_type", ["claude-code", "opencode"]);
export const agentProvider = pgEnum("agent_provider", [
  "anthropic",
  "openai",
  "google",
  "groq",
  "deepseek",
  "mistral",
  "together",
  "fireworks",
]);

export const appConfig = pgTable("app_config", {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  type: configType().notNull().unique(),
  config: jsonb().notNull(),
  createdAt: timestamp("created_at").defaultNow().notNull(),
  updatedAt: timestamp("updated_at").defaultNow().notNull(),
});

/** The columns of feature_requests up to migration 0002. */
export const requestColumns = {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  requestId: text("request_id").notNull().unique(),
  origin: requestOrigin().notNull(),
  repo: text().notNull(),
  title: text(),
  description: text().notNull(),
  requestType: text("request_type"),
  status: requestStatus().default("pending").notNull(),
  slackUserId: text("slack_user_id"),
  slackUserName: text("slack_user_name"),
  slackChannelId: text("slack_channel_id"),
  slackChannelName: text("slack_channel_name"),
  slackThreadTs: text("slack_thread_ts"),
  responseUrl: text("response_url"),
  issueId: bigint("issue_id", { mode: "bigint" }).unique(),
  issueNumber: integer("issue_number"),
  issueTitle: text("issue_title"),
  issueBody: text("issue_body"),
  issueLabels: jsonb("issue_labels"),
  issueAuthor: text("issue_author"),
  issueUrl: text("issue_url"),
  webUserId: text("web_user_id"),
  webUserEmail: text("web_user_email"),
  repositoryUrl: text("repository_url"),
  repositoryName: text("repository_name"),
  repositoryId: integer("repository_id"),
  repositoryOwner: text("repository_owner"),
  repositoryNameOnly: text("repository_name_only"),
  appId: text("app_id"),
  taskStatus: taskStatus("task_status").default("pending"),
  prUrl: text("pr_url"),
  prNumber: integer("pr_number"),
  prBranchName: text("pr_branch_name"),
  retryCount: integer("retry_count").default(0),
  lastRetryAt: timestamp("last_retry_at"),
  costUsd: integer("cost_usd"),
  durationMs: integer("duration_ms"),
  createdAt: timestamp("created_at").defaultNow().notNull(),
  updatedAt: timestamp("updated_at").defaultNow().notNull(),
  processedAt: timestamp("processed_at"),
};

export const featureRequests = pgTable("feature_requests", {
  ...requestColumns,
  agentType: agentType("agent_type").default("claude-code"),
  agentProvider: agentProvider("agent_provider").default("anthropic"),
  agentModel: text("agent_model"),
  agentSessionId: text("agent_session_id"),
});

export const requestMessages = pgTable("request_messages", {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  requestId: text("request_id").notNull().references(() => featureRequests.requestId),
  type: messageType().notNull(),
  source: messageSource().notNull(),
  content: text().notNull(),
  actorId: text("actor_id"),
  actorName: text("actor_name"),
  metadata: jsonb(),
  createdAt: timestamp("created_at").defaultNow().notNull(),
});
