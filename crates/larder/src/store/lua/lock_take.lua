-- Takes tokens from a bucket, all or none. A level counts tokens times the interval in ms, so that one ms adds exactly
-- the tokens of an interval to it. All is in whole numbers below 2^53, whose quotients round down and up exactly.
-- KEYS: 1 bucket: '<level> <interval ms> <at ms>'; a full one is not there
-- ARGV: 1 how many     2 tokens of an interval     3 the interval in ms     4 tokens of a full bucket
-- Returns: { 1 taken or 0 not, whole tokens left, ms until there are enough }
local tokens, interval = tonumber(ARGV[2]), tonumber(ARGV[3])
local full, cost = ARGV[4] * interval, ARGV[1] * interval
local fill_ms = math.ceil(full / tokens)
local now = math.floor(now_us() / 1000)
local level, at = full, now
local known = redis.call('GET', KEYS[1])
if known then
  local old, of_interval, since = string.match(known, '^(%d+) (%d+) (%d+)$')
  if not old then
    return redis.error_reply('WRONGTYPE this is no bucket')
  end
  level, of_interval, since = tonumber(old), tonumber(of_interval), tonumber(since)
  if of_interval ~= interval then
    level = math.floor(level / math.max(of_interval, 1)) * interval
  end
  local passed = math.min(math.max(now - since, 0), fill_ms)
  level = math.min(level + passed * tokens, full)
  at = math.max(now, since)
end
local taken, missing = 1, 0
if cost <= level then
  level = level - cost
else
  taken, missing = 0, cost - level
end
local bucket = string.format('%.0f %.0f %.0f', level, interval, at)
redis.call('SET', KEYS[1], bucket, 'PX', fill_ms)
return { taken, math.floor(level / interval), math.ceil(missing / tokens) }
