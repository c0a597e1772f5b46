-- Makes what depends on registers of tags stale.
-- KEYS: 1 register of the namespace, 2 the register that every invalidation changes, 3 journal,
--       4.. registers of tags
-- ARGV: 8 fresh bytes for each register of a tag
-- Returns: for each of them 1 if it was there, else 0
redis.call('DEL', KEYS[2])
local life, had, fields = redis.call('GET', KEYS[1]), {}, {}
for at = 4, #KEYS do
  local value = redis.call('GET', KEYS[at])
  local is_there = life and value and #value == 24 and string.sub(value, 17) == life
  if is_there then
    redis.call('SETRANGE', KEYS[at], 8, ARGV[at - 3])
  end
  had[at - 3] = is_there and 1 or 0
  fields[#fields + 1] = 't'
  fields[#fields + 1] = string.sub(KEYS[at], #KEYS[1] + 2)
  if #fields == 2000 or at == #KEYS then
    record(KEYS[3], fields)
    fields = {}
  end
end
return had
