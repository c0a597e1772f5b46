-- The embedded store's tables. Times are milliseconds since the Unix epoch.
-- A namespace's id is never used again, so that clearing it is one new row.
CREATE TABLE namespaces (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    name BLOB NOT NULL UNIQUE
);

-- Entries of these namespaces are unreachable and wait to be reclaimed.
CREATE TABLE dead_namespaces (
    id INTEGER PRIMARY KEY
);

-- A write replaces its row, so row ids are in order of the last write.
CREATE TABLE entries (
    ns         INTEGER NOT NULL,
    key        BLOB NOT NULL,
    expires_at INTEGER,
    value      BLOB NOT NULL,
    PRIMARY KEY (ns, key)
);

CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL;

-- Locks and semaphores (kind 0) and rate limiters (kind 1), which no cache's namespace holds. A record tells its own
-- times; one that nobody uses goes after keep_until.
CREATE TABLE leases (
    kind       INTEGER NOT NULL,
    space      BLOB NOT NULL,
    name       BLOB NOT NULL,
    keep_until INTEGER NOT NULL,
    record     BLOB NOT NULL,
    PRIMARY KEY (kind, space, name)
) WITHOUT ROWID;

CREATE INDEX leases_by_keep_until ON leases (keep_until);
