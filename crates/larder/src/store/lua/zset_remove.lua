-- Removes members of a sorted set, by name or by score; an empty set disappears.
-- KEYS: 1 entry (the stamp of the set), 2 register, 3 members, 4 journal, 5.. registers of tags
-- ARGV: 1 write id     2 M by name, S by score     3.. members, or the lowest and the highest score
-- Returns: { 'count', how many were removed } { 'registers', names }, or { 'wrong' }: the entry is no sorted set
local kind, _, _, tags = present()
if tags and tags.ask then
  return { 'registers', tags.ask }
end
if kind == 'L' then
  kind = nil
end
if kind and kind ~= 'Z' and kind ~= 'U' then
  return { 'wrong' }
end
if kind ~= 'Z' then
  return { 'count', 0 }
end
local removed = 0
if ARGV[2] == 'S' then
  removed = redis.call('ZREMRANGEBYSCORE', KEYS[3], ARGV[3], ARGV[4])
else
  for from = 3, #ARGV, 4000 do
    removed = removed + redis.call('ZREM', KEYS[3], unpack(ARGV, from, math.min(from + 3999, #ARGV)))
  end
end
if removed > 0 then
  if redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('SETRANGE', KEYS[1], 17, ARGV[1])
    note(ARGV[1])
  else
    redis.call('UNLINK', KEYS[1])
    note(NO_WRITE_ID)
  end
end
return { 'count', removed }
