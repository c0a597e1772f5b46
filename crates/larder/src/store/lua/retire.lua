-- Takes a step towards the end of registers of tags that nothing carries any more. One that is kept for good has no
-- expiry; one that is under suspicion as well expires so late that no entry lives until then.
-- KEYS: 1 register of the namespace, 2.. registers of tags
-- ARGV: 1 step: L look, S suspect, E end     2 when those under this suspicion expire, in ms     3 how long ended ones are
--       kept yet, in ms
-- Returns: for each of them 1 if the step applied to it, else 0
local life, time = redis.call('GET', KEYS[1]), redis.call('TIME')
local now = 1000 * time[1] + math.floor(time[2] / 1000)
-- The times of two suspicions are further apart, and a server tells a time twice the same within less.
local SLACK_MS = 100000

local function applies(key)
  local value = redis.pcall('GET', key)
  if type(value) ~= 'string' or #value ~= 24 or string.sub(value, 17) ~= life then
    return false
  end
  local left = redis.call('PTTL', key)
  if ARGV[1] == 'E' then
    return left > SUSPECTED_MS and math.abs(now + left - ARGV[2]) < SLACK_MS
  end
  return left < 0 or left > SUSPECTED_MS
end

local done = {}
for at = 2, #KEYS do
  done[at - 1] = applies(KEYS[at]) and 1 or 0
  if done[at - 1] == 1 and ARGV[1] == 'S' then
    redis.call('PEXPIRE', KEYS[at], ARGV[2] - now)
  elseif done[at - 1] == 1 and ARGV[1] == 'E' then
    redis.call('PEXPIRE', KEYS[at], ARGV[3])
  end
end
return done
