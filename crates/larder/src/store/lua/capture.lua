-- Captures registers of tags.
-- KEYS: 1 register of the namespace, 2.. registers of tags
-- ARGV: 1 a fresh register     2 how long they are kept at least, in ms     3.. 16 fresh bytes for each
-- Returns: { the register of the namespace, their stamps }
local life = redis.call('GET', KEYS[1])
life = ensure(KEYS[1], life and #life == 8 and life, ARGV[1])
return { life, capture(life, 2, #KEYS, 3, tonumber(ARGV[2])) }
