CREATE TYPE "public"."task_status" AS ENUM('pending', 'processing', 'completed', 'error');--> statement-breakpoint
ALTER TYPE "public"."message_type" ADD VALUE 'agent_thinking';--> statement-breakpoint
ALTER TYPE "public"."message_type" ADD VALUE 'agent_tool_call';--> statement-breakpoint
ALTER TYPE "public"."message_type" ADD VALUE 'agent_tool_result';--> statement-breakpoint
ALTER TYPE "public"."message_type" ADD VALUE 'agent_file_change';--> statement-breakpoint
ALTER TYPE "public"."message_type" ADD VALUE 'agent_terminal';--> statement-breakpoint
ALTER TYPE "public"."message_type" ADD VALUE 'agent_summary';--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "task_status" "task_status" DEFAULT 'pending';--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "retry_count" integer DEFAULT 0;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "last_retry_at" timestamp;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "cost_usd" integer;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "duration_ms" integer;