-- Finds the end of a journal, which begins now if there is none, and keeps it and the key that says that it is followed.
-- KEYS: 1 journal     2 followed
-- ARGV: 1 how long they are kept, in ms     2 fresh bytes     3 a fresh number
-- Returns: { what says that it is followed, its last record: { id, fields and values } }
local followed = redis.call('MGET', KEYS[2])[1]
if not followed then
  -- Puts may have passed unnoted: the value tells other readers.
  followed = ARGV[2]
  redis.call('SET', KEYS[2], followed)
end
redis.call('PEXPIRE', KEYS[2], ARGV[1])
if #redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1) == 0 then
  -- An empty one would remember its ids.
  redis.call('DEL', KEYS[1])
  -- The number keeps the ids of this ms from being those of a journal that has just ended.
  local time = redis.call('TIME')
  local id = string.format('%s%03d-%s', time[1], math.floor(time[2] / 1000), ARGV[3])
  redis.call('XADD', KEYS[1], id, 'a', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return { followed, redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] }
