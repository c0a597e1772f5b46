-- Adds members to a sorted set or changes their scores; creates the set.
-- KEYS: 1 entry (the stamp of the set), 2 register, 3 members, 4 journal, 5.. registers of tags
-- ARGV: 1 a fresh register     2 expiry of a new set: A, N     3 ttl in ms     4 expires at, 8 bytes     5 write id
--       6 the envelope of a new set     7.. scores and members
-- Returns: { 'count', how many are new } { 'registers', names }, or { 'wrong' }: the entry is no sorted set
local kind, _, stamp, tags = present()
if tags and tags.ask then
  return { 'registers', tags.ask }
end
if kind == 'L' then
  kind = nil
end
if kind and kind ~= 'Z' and kind ~= 'U' then
  return { 'wrong' }
end
if #ARGV < 7 then
  return { 'count', 0 }
end
if kind == 'Z' then
  redis.call('SETRANGE', KEYS[1], 17, ARGV[5])
else
  stamp = ensure(KEYS[2], stamp, ARGV[1])
  -- Members of a set that was overwritten or cleared may still be there.
  redis.call('UNLINK', KEYS[3])
  store(KEYS[1], 'Z' .. stamp .. ARGV[4] .. ARGV[5] .. ARGV[6], ARGV[2], ARGV[3])
end
local added = add(KEYS[3], 7)
follow(KEYS[3], KEYS[1])
note(ARGV[5])
return { 'count', added }
