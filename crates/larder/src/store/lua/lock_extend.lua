-- Makes a lease last so many ms from now.
-- KEYS: 1 lease
-- ARGV: 1 owner     2 ttl in ms     3 how long an idle lease is kept, in ms
-- Returns: 1; 0: the owner holds none
local own, now = 'h' .. ARGV[1], math.floor(now_us() / 1000)
local ends, rest = string.match(redis.call('HGET', KEYS[1], own) or '', '^(%d+)( .*)$')
if (tonumber(ends) or 0) <= now then
  return 0
end
-- Before the rest: a server that is out of memory lets a script go on that has begun to write.
keep(KEYS[1], ARGV[2] + ARGV[3], ARGV[2] + ARGV[3])
redis.call('HSET', KEYS[1], own, (now + ARGV[2]) .. rest)
return 1
