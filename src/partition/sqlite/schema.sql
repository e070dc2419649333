-- The schema of one partition in SQLite's dialect. Tables, columns and what they mean are those of
-- database_definition.sql, which has a comment for each; a test compares the two.
--
-- `data` and `system` keep their row ids: a table without them would hold whole rows, values and
-- all, in the inner pages of its tree. `value` comes last, so that no other column is read through
-- it.

CREATE TABLE IF NOT EXISTS "data" (
  "id" BLOB NOT NULL PRIMARY KEY,
  "version" INTEGER NOT NULL,
  "origin" INTEGER NOT NULL,
  "deleted" INTEGER NOT NULL,
  "expires_at" INTEGER NULL,
  "updated_at" INTEGER NOT NULL,
  "checksum" INTEGER NOT NULL,
  "content_type" TEXT NOT NULL,
  "value" BLOB NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS "expires_in_data" ON "data" ("expires_at", "id")
  WHERE "expires_at" IS NOT NULL;

CREATE TABLE IF NOT EXISTS "system" (
  "id" BLOB NOT NULL PRIMARY KEY,
  "version" INTEGER NOT NULL,
  "origin" INTEGER NOT NULL,
  "deleted" INTEGER NOT NULL,
  "expires_at" INTEGER NULL,
  "updated_at" INTEGER NOT NULL,
  "checksum" INTEGER NOT NULL,
  "content_type" TEXT NOT NULL,
  "value" BLOB NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS "expires_in_system" ON "system" ("expires_at", "id")
  WHERE "expires_at" IS NOT NULL;

CREATE TABLE IF NOT EXISTS "change" (
  "origin" INTEGER NOT NULL,
  "version" INTEGER NOT NULL,
  "space" INTEGER NOT NULL,
  "id" BLOB NOT NULL,
  PRIMARY KEY ("origin", "version")
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS "clock" (
  "id" INTEGER NOT NULL PRIMARY KEY CHECK ("id" = 1),
  "set_id" BLOB NOT NULL,
  "partition_id" INTEGER NOT NULL,
  "schema_version" INTEGER NOT NULL,
  "epoch" INTEGER NOT NULL,
  "seq" INTEGER NOT NULL,
  "run_id" INTEGER NOT NULL,
  "reseed" INTEGER NOT NULL,
  "reseeding" INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS "jump" (
  "first_after" INTEGER NOT NULL PRIMARY KEY,
  "last_before" INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS "cursor" (
  "origin" INTEGER NOT NULL PRIMARY KEY,
  "cursor_version" INTEGER NOT NULL,
  "floor_version" INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS "topology" (
  "id" INTEGER NOT NULL PRIMARY KEY CHECK ("id" = 1),
  "epoch" INTEGER NOT NULL,
  "digest" INTEGER NOT NULL,
  "incarnation" INTEGER NOT NULL,
  "promised_round" INTEGER NOT NULL,
  "promised_by" INTEGER NOT NULL,
  "accepted_round" INTEGER NOT NULL,
  "accepted_by" INTEGER NOT NULL,
  "document" TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS "frontend" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "beats" INTEGER NOT NULL,
  "updated_at" INTEGER NOT NULL,
  "document" TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS "conflict" (
  "space" INTEGER NOT NULL,
  "id" BLOB NOT NULL,
  "version" INTEGER NOT NULL,
  "origin" INTEGER NOT NULL,
  "deleted" INTEGER NOT NULL,
  "expires_at" INTEGER NULL,
  "updated_at" INTEGER NOT NULL,
  "checksum" INTEGER NOT NULL,
  "content_type" TEXT NOT NULL,
  "value" BLOB NOT NULL,
  PRIMARY KEY ("space", "id", "version")
) STRICT;
