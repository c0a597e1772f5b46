-- Creates the tables and, the first time, fills them: 240 users, 300 products.
PRAGMA journal_mode = WAL;

-- Of two programs that start at once, the second waits and finds the tables filled.
BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS users (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL,
    email TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS products (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    price_cents INTEGER NOT NULL,
    stock       INTEGER NOT NULL CHECK (stock >= 0),
    sold        INTEGER NOT NULL DEFAULT 0
);

WITH RECURSIVE
    numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 240),
    names (n, name) AS (
        SELECT n, json_extract('["Ann","Bob","Cleo","Dan","Eve","Finn","Gus","Hana"]', '$[' || (n % 8) || ']')
            || ' ' || json_extract('["Baker","Cook","Fisher","Miller","Smith"]', '$[' || (n % 5) || ']')
        FROM numbers
    )
INSERT INTO users (id, name, email)
SELECT n, name, lower(replace(name, ' ', '.')) || n || '@example.com'
FROM names
WHERE NOT EXISTS (SELECT 1 FROM users);

-- Every fiftieth product is out of stock.
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 300)
INSERT INTO products (id, name, price_cents, stock)
SELECT n,
    json_extract('["Blue","Green","Red","Small","Large"]', '$[' || (n % 5) || ']') || ' '
        || json_extract('["cup","plate","bowl","jar","pan","knife","spoon"]', '$[' || (n % 7) || ']') || ' no. ' || n,
    250 + n * 37 % 5000,
    n % 50
FROM numbers
WHERE NOT EXISTS (SELECT 1 FROM products);

COMMIT;
