-- Ends an owner's lease and its place in the queue, and calls the first waiter.
-- KEYS: 1 lease, 2 queue, 3 poll-by, 4 history
-- ARGV: 1 owner     2 for how long it was held, in ms; '': not to be remembered     3 how many hold times are remembered
--       4 for how long, in ms
-- Returns: 1; 0: it held no lease
local own, was_held = 'h' .. ARGV[1], 0
local known = redis.call('HMGET', KEYS[1], own, 't')
local now = (known[1] or known[2]) and math.floor(now_us() / 1000)
if known[1] then
  redis.call('HDEL', KEYS[1], own)
  local ends = tonumber(string.match(known[1], '^%d+'))
  was_held = ends and ends > now and 1 or 0
end
if ARGV[2] ~= '' then
  -- What cannot be remembered must not keep a lease from its end.
  local length = redis.pcall('LPUSH', KEYS[4], ARGV[2])
  if type(length) == 'number' then
    if length > tonumber(ARGV[3]) then
      redis.call('LTRIM', KEYS[4], 0, ARGV[3] - 1)
    end
    redis.call('PEXPIRE', KEYS[4], ARGV[4])
  end
end
if known[2] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  drop_dead(KEYS[2], KEYS[3], now)
  if not call_first(KEYS[2], KEYS[1]) then
    redis.call('HDEL', KEYS[1], 't')
  end
end
return was_held
