-- The schema of one partition, for MariaDB (10.11) and MySQL (8.0 and later).
--
--     mariadb store_1 < database_definition.sql
--
-- It may be loaded any number of times: what stands is left alone. `datastore init` does the same.
-- The tables stay empty of meaning until `init` or `serve` writes the one row of `clock`, which
-- says whose database this is; nothing here is to be edited by hand.
--
-- Keys and values are bytes and compared as bytes (VARBINARY, LONGBLOB). Versions are (epoch,
-- sequence) packed into one positive 63-bit integer: epoch * 2^44 + sequence. Times are for expiry
-- and for people; nothing is ordered by them.
--
-- SQLite has the same tables and columns in its own dialect: src/partition/sqlite/schema.sql.

SET NAMES utf8mb4;

CREATE TABLE IF NOT EXISTS `data` (
  `id` VARBINARY(1024) NOT NULL
    COMMENT 'The key, any bytes, at least one. Written by whoever writes the row.',
  `version` BIGINT NOT NULL
    COMMENT 'Packed version of the newest write that this partition has; only ever replaced by a greater one.',
  `origin` SMALLINT UNSIGNED NOT NULL
    COMMENT 'Id of the partition that assigned the version: the master at that time.',
  `deleted` TINYINT NOT NULL
    COMMENT '1: a tombstone, the mark of a delete; value and content_type are empty then. Else 0.',
  `expires_at` BIGINT NULL
    COMMENT 'Milliseconds since 1970 UTC from which on the row is invisible; NULL: never.',
  `updated_at` BIGINT NOT NULL
    COMMENT 'Milliseconds since 1970 UTC when this partition stored the row, by its own clock. For people only: differs between partitions, orders nothing.',
  `checksum` BIGINT NOT NULL
    COMMENT 'xxh3 over all columns but updated_at, as a signed integer. Written with the row, compared at every read of the value.',
  `content_type` VARCHAR(255) NOT NULL
    COMMENT 'Media type as the client sent it, at most 255 bytes.',
  `value` LONGBLOB NOT NULL
    COMMENT 'The bytes as the client sent them.',
  PRIMARY KEY (`id`),
  KEY `expires` (`expires_at`)
    COMMENT 'What has expired, for the sweep that makes tombstones of it.'
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='What clients store: one row a key, tombstones included.';

CREATE TABLE IF NOT EXISTS `system` (
  `id` VARBINARY(1024) NOT NULL
    COMMENT 'The key, any bytes, at least one. Written by whoever writes the row.',
  `version` BIGINT NOT NULL
    COMMENT 'Packed version of the newest write that this partition has; only ever replaced by a greater one.',
  `origin` SMALLINT UNSIGNED NOT NULL
    COMMENT 'Id of the partition that assigned the version: the master at that time.',
  `deleted` TINYINT NOT NULL
    COMMENT '1: a tombstone, the mark of a delete; value and content_type are empty then. Else 0.',
  `expires_at` BIGINT NULL
    COMMENT 'Milliseconds since 1970 UTC from which on the row is invisible; NULL: never.',
  `updated_at` BIGINT NOT NULL
    COMMENT 'Milliseconds since 1970 UTC when this partition stored the row, by its own clock. For people only: differs between partitions, orders nothing.',
  `checksum` BIGINT NOT NULL
    COMMENT 'xxh3 over all columns but updated_at, as a signed integer. Written with the row, compared at every read of the value.',
  `content_type` VARCHAR(255) NOT NULL
    COMMENT 'Media type of the value, at most 255 bytes.',
  `value` LONGBLOB NOT NULL
    COMMENT 'The bytes of the record.',
  PRIMARY KEY (`id`),
  KEY `expires` (`expires_at`)
    COMMENT 'What has expired, for the sweep that makes tombstones of it.'
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='The records of the service itself: the columns of data, the same logs, never visible to clients.';

CREATE TABLE IF NOT EXISTS `change` (
  `origin` SMALLINT UNSIGNED NOT NULL
    COMMENT 'Id of the partition whose log the entry belongs to.',
  `version` BIGINT NOT NULL
    COMMENT 'Packed version of the write. Entries above the cursor of their origin are early.',
  `space` TINYINT NOT NULL
    COMMENT '0: the key is one of data. 1: one of system.',
  `id` VARBINARY(1024) NOT NULL
    COMMENT 'The key that was written; its current row may be newer. LOG-1: written in the transaction that writes the row.',
  PRIMARY KEY (`origin`, `version`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='The logs, one per origin, append only above the floor, removed by trimming at or below it.';

CREATE TABLE IF NOT EXISTS `clock` (
  `id` TINYINT NOT NULL
    COMMENT 'Always 1: there is one row, written when the set is founded.',
  `set_id` BINARY(16) NOT NULL
    COMMENT 'The set that this database belongs to: 128 random bits, written once. Keeps its name and form in every schema.',
  `partition_id` SMALLINT UNSIGNED NOT NULL
    COMMENT 'The id of this partition in its set, written once, never used again by another. Keeps its name and form in every schema.',
  `schema_version` INT UNSIGNED NOT NULL
    COMMENT 'The schema that these tables have, written by init. Keeps its name and form in every schema.',
  `epoch` INT UNSIGNED NOT NULL
    COMMENT 'Fencing number, at most 2^19 - 1; never goes down. FENCE-1: no write commits here under a lower one.',
  `seq` BIGINT NOT NULL
    COMMENT 'The last sequence that this partition gave, at most 2^44 - 1; never goes down. VER-1: raised in the transaction of the writes that use it.',
  `run_id` BIGINT NOT NULL
    COMMENT 'The server run of the last opening of a write lane: 64 random bits as a signed integer.',
  `reseed` BIGINT NOT NULL
    COMMENT 'How often this partition was emptied to be made anew; never goes down.',
  `reseeding` TINYINT NOT NULL
    COMMENT '1: a reseed is under way, the partition serves nothing and is nobody''s source. Else 0.',
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='Whose database this is, and its clock. Locked by every writing transaction.';

CREATE TABLE IF NOT EXISTS `jump` (
  `first_after` BIGINT NOT NULL
    COMMENT 'The first sequence that may be given after the jump.',
  `last_before` BIGINT NOT NULL
    COMMENT 'The last sequence that was known to be given before it. What lies between may have been seen and lost in a crash.',
  PRIMARY KEY (`first_after`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='Jumps of the sequence, one for each server run that a write lane was opened in.';

CREATE TABLE IF NOT EXISTS `cursor` (
  `origin` SMALLINT UNSIGNED NOT NULL
    COMMENT 'Id of the partition whose log this is about.',
  `cursor_version` BIGINT NOT NULL
    COMMENT 'Packed version: how far this partition has that log. CUR-1: written with the rows and entries that it covers. Unused for the own id, whose place is the clock.',
  `floor_version` BIGINT NOT NULL
    COMMENT 'Packed version: up to here the log may be trimmed and tombstones collected; only rises. Never above the cursor (own id: the clock).',
  PRIMARY KEY (`origin`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='How far this partition has every log.';

CREATE TABLE IF NOT EXISTS `topology` (
  `id` TINYINT NOT NULL
    COMMENT 'Always 1: there is one row, written when the set is founded.',
  `epoch` INT UNSIGNED NOT NULL
    COMMENT 'The epoch of the document.',
  `digest` BIGINT NOT NULL
    COMMENT 'xxh3 over names, ids, roles and slot table of the document, as a signed integer: one that does not match is damage.',
  `incarnation` BIGINT NOT NULL
    COMMENT 'Names this life of the acceptor: 64 bits as a signed integer. It votes only while the topology lists the same; written once.',
  `promised_round` BIGINT NOT NULL
    COMMENT 'Round of the highest ballot promised: nothing below is promised or accepted any more. Only rises; written by the first phase of a proposal.',
  `promised_by` BIGINT NOT NULL
    COMMENT 'Who proposed that ballot: 64 random bits as a signed integer. Orders ballots of one round.',
  `accepted_round` BIGINT NOT NULL
    COMMENT 'Round of the ballot that the document was accepted under; 0: none yet, it came along when the partition joined. Never above the promised one.',
  `accepted_by` BIGINT NOT NULL
    COMMENT 'Who proposed that ballot: 64 random bits as a signed integer.',
  `document` LONGTEXT NOT NULL
    COMMENT 'The topology that was accepted last, JSON. One partition alone does not tell whether it was chosen. Its epoch is never above that of clock.',
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='The acceptor of the topology register: who takes the writes of which key, as this partition has accepted it.';

CREATE TABLE IF NOT EXISTS `frontend` (
  `id` VARCHAR(64) NOT NULL
    COMMENT 'Who wrote the row: the name of a front end, or `barrier`.',
  `beats` BIGINT NOT NULL
    COMMENT 'How often it wrote. BAR-1: a committed write here makes durable all that was visible before.',
  `updated_at` BIGINT NOT NULL
    COMMENT 'Milliseconds since 1970 UTC of the last write, by the clock of this partition: how long a front end has been silent is judged by the same clock.',
  `document` MEDIUMTEXT NOT NULL
    COMMENT 'What the front end says of itself, JSON: where it listens, what it serves, who follows there. Empty for `barrier`.',
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='Heartbeats and barriers.';

CREATE TABLE IF NOT EXISTS `conflict` (
  `space` TINYINT NOT NULL
    COMMENT '0: the row was one of data. 1: one of system.',
  `id` VARBINARY(1024) NOT NULL
    COMMENT 'The key that two writes met at.',
  `version` BIGINT NOT NULL
    COMMENT 'Packed version of the write that lost.',
  `origin` SMALLINT UNSIGNED NOT NULL
    COMMENT 'Id of the partition that assigned the version.',
  `deleted` TINYINT NOT NULL
    COMMENT '1: the write that lost was a delete. Else 0.',
  `expires_at` BIGINT NULL
    COMMENT 'Of the write that lost: milliseconds since 1970 UTC; NULL: never.',
  `updated_at` BIGINT NOT NULL
    COMMENT 'Milliseconds since 1970 UTC when the conflict was noted, by the clock of this partition; of an entry that was copied here: as long ago as it was noted there. What has been kept for long enough goes.',
  `checksum` BIGINT NOT NULL
    COMMENT 'xxh3 over the row that lost, as in data.',
  `content_type` VARCHAR(255) NOT NULL
    COMMENT 'Media type of the value that lost.',
  `value` LONGBLOB NOT NULL
    COMMENT 'The bytes that lost.',
  PRIMARY KEY (`space`, `id`, `version`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='The ledger. LOSS-1: what merging drops is kept here, in the transaction that drops it.';

CREATE TABLE IF NOT EXISTS `server_run` (
  `id` TINYINT NOT NULL
    COMMENT 'Always 1: there is one row, or none right after a start of the server.',
  `run_id` BIGINT NOT NULL
    COMMENT '64 random bits as a signed integer, drawn by the first connection that finds the table empty.',
  PRIMARY KEY (`id`)
) ENGINE=MEMORY DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  COMMENT='Names the run of the server. ENGINE=MEMORY on purpose: a restart empties it, and so can be told without a clock.';
