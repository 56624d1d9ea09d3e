CREATE TYPE "public"."message_source" AS ENUM('slack', 'github', 'web', 'system');--> statement-breakpoint
CREATE TYPE "public"."message_type" AS ENUM('initial_request', 'clarification_ask', 'clarification_answer', 'follow_up_request', 'processing_started', 'processing_update', 'pr_created', 'pr_updated', 'error', 'retry', 'cancelled');--> statement-breakpoint
ALTER TYPE "public"."request_status" ADD VALUE 'awaiting_clarification' BEFORE 'pr_created';--> statement-breakpoint
ALTER TYPE "public"."request_status" ADD VALUE 'cancelled' BEFORE 'error';--> statement-breakpoint
CREATE TABLE "request_messages" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "request_messages_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"request_id" text NOT NULL,
	"type" "message_type" NOT NULL,
	"source" "message_source" NOT NULL,
	"content" text NOT NULL,
	"actor_id" text,
	"actor_name" text,
	"metadata" jsonb,
	"created_at" timestamp DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "web_user_id" text;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "web_user_email" text;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "repository_url" text;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "repository_name" text;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "repository_id" integer;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "repository_owner" text;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "repository_name_only" text;--> statement-breakpoint
ALTER TABLE "feature_requests" ADD COLUMN "app_id" text;--> statement-breakpoint
ALTER TABLE "request_messages" ADD CONSTRAINT "request_messages_request_id_feature_requests_request_id_fk" FOREIGN KEY ("request_id") REFERENCES "public"."feature_requests"("request_id") ON DELETE no action ON UPDATE no action;