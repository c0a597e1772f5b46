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

-- Who reads the changes of a namespace, and when it was last heard of; see journal.rs. One that is forgotten begins anew.
CREATE TABLE readers (
    ns      INTEGER NOT NULL,
    id      INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (ns, id)
) WITHOUT ROWID;

-- The last changes of entries (kind 0) and registers (kind 1), while somebody reads them. The newest row always stays, so
-- that ids only grow; they have no gaps, so whoever misses one knows. The write id is empty where it tells nothing.
CREATE TABLE changes (
    id       INTEGER PRIMARY KEY,
    ns       INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    name     BLOB NOT NULL,
    write_id BLOB NOT NULL
);

CREATE TRIGGER changes_are_bounded AFTER INSERT ON changes
BEGIN
    DELETE FROM changes WHERE id <= NEW.id - 10000;
END;

-- Marks of loads (the sixth byte of the envelope) are no news. An entry that keeps its write id has other stamps.
CREATE TRIGGER entry_is_put BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM readers WHERE ns = NEW.ns)
    AND NOT (substr(NEW.value, 1, 4) = x'4C524452' AND substr(NEW.value, 6, 1) = x'02')
BEGIN
    INSERT INTO changes (ns, kind, name, write_id) VALUES (NEW.ns, 0, NEW.key, CASE
        WHEN substr(NEW.value, 9, 8) = (SELECT substr(value, 9, 8) FROM entries WHERE ns = NEW.ns AND key = NEW.key)
        THEN x'' ELSE substr(NEW.value, 9, 8) END);
END;

CREATE TRIGGER entry_is_touched AFTER UPDATE OF expires_at ON entries
WHEN EXISTS (SELECT 1 FROM readers WHERE ns = NEW.ns)
    AND NOT (substr(NEW.value, 1, 4) = x'4C524452' AND substr(NEW.value, 6, 1) = x'02')
BEGIN
    INSERT INTO changes (ns, kind, name, write_id) VALUES (NEW.ns, 0, NEW.key, x'');
END;

-- Readers notice that the namespace has another id.
CREATE TRIGGER namespace_is_cleared AFTER DELETE ON namespaces
BEGIN
    DELETE FROM readers WHERE ns = OLD.id;
END;
