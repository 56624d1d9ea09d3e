CREATE TYPE "public"."agent_provider" AS ENUM('anthropic', 'openai', 'google', 'groq', 'deepseek', 'mistral', 'together', 'fireworks');--> statement-breakpoint
CREATE TYPE "public"."agent_type" AS ENUM('claude-code', 'opencode');--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "agent_type" "agent_type" DEFAULT 'claude-code';--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "agent_provider" "agent_provider" DEFAULT 'anthropic';--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "agent_model" text;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "agent_session_id" text;