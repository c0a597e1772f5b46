-- Removes an entry that is invalid by one of its tags.
-- KEYS: 1 entry, 2 register, 3 members of a sorted set, 4.. registers of tags
-- Returns: 1 if it was removed, else 0
if present() then
  return 0
end
redis.call('UNLINK', KEYS[3])
return redis.call('UNLINK', KEYS[1])
