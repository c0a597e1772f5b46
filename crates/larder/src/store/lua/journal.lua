-- Finds the end of a journal, which begins now if there is none, and keeps it.
-- KEYS: 1 journal
-- ARGV: 1 how long it is kept, in ms     2 fresh bytes     3 a fresh number
-- Returns: its last record: { id, fields and values }
if #redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1) == 0 then
  -- An empty one would remember its ids.
  redis.call('DEL', KEYS[1])
  -- The number keeps the ids of this ms from being those of a journal that has just ended.
  local time = redis.call('TIME')
  local id = string.format('%s%03d-%s', time[1], math.floor(time[2] / 1000), ARGV[3])
  redis.call('XADD', KEYS[1], id, 'a', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
