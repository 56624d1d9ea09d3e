CREATE TYPE "public"."config_type" AS ENUM('github', 'claude', 'slack');--> statement-breakpoint
CREATE TYPE "public"."request_origin" AS ENUM('slack', 'github_issue', 'web');--> statement-breakpoint
CREATE TYPE "public"."request_status" AS ENUM('pending', 'issue_created', 'processing', 'pr_created', 'completed', 'error');--> statement-breakpoint
CREATE TABLE "app_config" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "app_config_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"type" "config_type" NOT NULL,
	"config" jsonb NOT NULL,
	"created_at" timestamp DEFAULT now() NOT NULL,
	"updated_at" timestamp DEFAULT now() NOT NULL,
	CONSTRAINT "app_config_type_unique" UNIQUE("type")
);
--> statement-breakpoint
CREATE TABLE "feature_requests" (
	"id" integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "feature_requests_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 2147483647 START WITH 1 CACHE 1),
	"request_id" text NOT NULL,
	"origin" "request_origin" NOT NULL,
	"repo" text NOT NULL,
	"title" text,
	"description" text NOT NULL,
	"request_type" text,
	"status" "request_status" DEFAULT 'pending' NOT NULL,
	"slack_user_id" text,
	"slack_user_name" text,
	"slack_channel_id" text,
	"slack_channel_name" text,
	"slack_thread_ts" text,
	"response_url" text,
	"issue_id" bigint,
	"issue_number" integer,
	"issue_title" text,
	"issue_body" text,
	"issue_labels" jsonb,
	"issue_author" text,
	"issue_url" text,
	"pr_url" text,
	"pr_number" integer,
	"pr_branch_name" text,
	"created_at" timestamp DEFAULT now() NOT NULL,
	"updated_at" timestamp DEFAULT now() NOT NULL,
	"processed_at" timestamp,
	CONSTRAINT "feature_requests_request_id_unique" UNIQUE("request_id"),
	CONSTRAINT "feature_requests_issue_id_unique" UNIQUE("issue_id")
);
