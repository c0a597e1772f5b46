-- Removes an entry that is invalid by one of its tags.
-- KEYS: 1 entry, 2 register, 3 members of a sorted set, 4 journal, 5.. registers of tags
-- ARGV: 1 R remove, C only count
-- Returns: 0 it stays, 1 it was removed, 2 it was the mark of a load and was removed
if present() then
  return 0
end
local kind = redis.call('GETRANGE', KEYS[1], 0, 0)
if ARGV[1] == 'R' then
  redis.call('UNLINK', KEYS[1], KEYS[3])
end
return kind == 'L' and 2 or math.min(#kind, 1)
