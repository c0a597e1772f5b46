-- Stores an entry, if its stamps are those of the registers as they are now.
-- KEYS: 1 entry, 2 register, 3 members of a sorted set, 4 journal, 5.. registers of tags
-- ARGV: 1 a fresh register     2 the stamps of the entry, one behind the other     3 expiry: A, N     4 ttl in ms
--       5 expires at, 8 bytes     6 kind of the frame     7 its write id     8 what follows its head
--       9 how long registers are kept at least, in ms     10.. 16 fresh bytes for each register
-- Returns: { 1 stored or 0 not, the register of the namespace, the stamps of the registers }
local life = redis.call('GET', KEYS[2])
life = ensure(KEYS[2], life and #life == 8 and life, ARGV[1])
local values = capture(life, 5, #KEYS, 10, tonumber(ARGV[9]))
if table.concat(values) ~= ARGV[2] then
  return { 0, life, values }
end
local noted = told(ARGV[7])
store(KEYS[1], ARGV[6] .. life .. ARGV[5] .. ARGV[7] .. ARGV[8], ARGV[3], ARGV[4])
redis.call('UNLINK', KEYS[3])
outlive(keys_between(5, #KEYS))
note(noted)
return { 1, life, values }
