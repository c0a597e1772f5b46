-- Grants a permit at once under a name that nobody holds or waits for; else goes on with lock_acquire.lua, which tells
-- what KEYS, ARGV and the reply are. It comes before the functions that all share: to make them takes time.
local time = redis.call('TIME')
local us = time[1] * 1000000 + time[2]
local now = math.floor(us / 1000)
local fields = redis.call('HGETALL', KEYS[1])
if #fields == 0 or (#fields == 2 and fields[1] == 'f') then
  -- At least the time of day: fences grow even if the lease was lost.
  local fence = math.max((tonumber(fields[2]) or 0) + 1, us)
  local text, ttl = string.format('%.0f', fence), tonumber(ARGV[3])
  redis.call('HSET', KEYS[1], 'f', text, 'h' .. ARGV[1], (now + ttl) .. ' ' .. text .. ' ' .. now)
  redis.call('PEXPIRE', KEYS[1], ttl + ARGV[7])
  return { 1, fence, ttl }
end
