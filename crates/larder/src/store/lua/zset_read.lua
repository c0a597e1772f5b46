-- Reads a sorted set.
-- KEYS: 1 entry (the stamp of the set), 2 register, 3 members, 4 journal, 5.. registers of tags
-- ARGV: 1 R by rank: 2 first, 3 last, 4 '1' if descending
--       1 S by score: 2 lowest, 3 highest     1 L count     1 M score of one member: 2 member
-- Returns: { 'count', number }, { 'members', { member, score, .. } } { 'registers', names }, or { 'wrong' }: the entry is no sorted set
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
local there = kind == 'Z'
if ARGV[1] == 'L' then
  return { 'count', there and redis.call('ZCARD', KEYS[3]) or 0 }
end
if not there then
  return { 'members', {} }
end
if ARGV[1] == 'M' then
  local score = redis.call('ZSCORE', KEYS[3], ARGV[2])
  return { 'members', score and { ARGV[2], score } or {} }
end
if ARGV[1] == 'S' then
  return { 'members', redis.call('ZRANGEBYSCORE', KEYS[3], ARGV[2], ARGV[3], 'WITHSCORES') }
end
if ARGV[4] == '1' then
  return { 'members', redis.call('ZREVRANGE', KEYS[3], ARGV[2], ARGV[3], 'WITHSCORES') }
end
return { 'members', redis.call('ZRANGE', KEYS[3], ARGV[2], ARGV[3], 'WITHSCORES') }
