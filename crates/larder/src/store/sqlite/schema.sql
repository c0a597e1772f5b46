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

-- A write replaces its row, so row ids are in order of the last write. The head is a copy of the value's header, where
-- something has to be looked up before the entry may be used: so listings need not read values.
CREATE TABLE entries (
    ns         INTEGER NOT NULL,
    key        BLOB NOT NULL,
    expires_at INTEGER,
    head       BLOB,
    value      BLOB NOT NULL,
    PRIMARY KEY (ns, key)
);

CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX entries_with_head ON entries (ns, key) WHERE head IS NOT NULL;

-- What entries depend on: one that names a register is valid while the register is there with the number that the entry
-- knows. One that is kept for good has the largest keep_until.
CREATE TABLE registers (
    ns         INTEGER NOT NULL,
    name       BLOB NOT NULL,
    hard       INTEGER NOT NULL,
    soft       INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    PRIMARY KEY (ns, name)
) WITHOUT ROWID;

CREATE INDEX registers_by_keep_until ON registers (keep_until);

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
