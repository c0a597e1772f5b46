-- Removes members of a sorted set, by name or by score; an empty set disappears.
-- KEYS: 1 entry (the stamp of the set), 2 register, 3 members
-- ARGV: 1 write id     2 M by name, S by score     3.. members, or the lowest and the highest score
-- Returns: { 'count', how many were removed } or { 'wrong' }: the entry is no sorted set
local kind = live(KEYS[1], KEYS[2])
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
  else
    redis.call('UNLINK', KEYS[1])
  end
end
return { 'count', removed }
