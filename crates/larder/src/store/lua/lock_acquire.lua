-- Grants a permit if one is free and it is the owner's turn; else puts the owner in the queue, if it waits.
-- KEYS: 1 lease, 2 queue, 3 poll-by
-- ARGV: 1 owner     2 permits     3 ttl in ms     4 heartbeat in ms; '': it does not wait     5 '1': before all who wait
--       6 the most waiters     7 how long an idle lease is kept, in ms
-- Returns: { 1, fence, ms left }; { 0, how many are ahead, ms until asking again can help }; { 2 }: too many wait
local own, permits, ttl = 'h' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local fence, ticket, held, first_end, last_end, ended = 0, nil, 0, now, now, nil
for at = 1, #fields, 2 do
  local name, value = fields[at], fields[at + 1]
  if name == 'f' then
    fence = tonumber(value)
  elseif name == 't' then
    ticket = value
  else
    local ends, granted = string.match(value, '^(%d+) (%d+) ')
    ends = tonumber(ends) or 0
    if ends <= now then
      ended = ended or {}
      ended[#ended + 1] = name
    elseif name == own then
      return { 1, tonumber(granted), ends - now }
    else
      held = held + 1
      last_end = math.max(last_end, ends)
      first_end = held == 1 and ends or math.min(first_end, ends)
    end
  end
end
if ended then
  redis.call('HDEL', KEYS[1], unpack(ended))
end

local waiters, place = 0, nil
if ticket then
  drop_dead(KEYS[2], KEYS[3], now)
  waiters = redis.call('ZCARD', KEYS[2])
  place = redis.call('ZRANK', KEYS[2], ARGV[1])
end
local ahead, free = place or waiters, permits - held
if free > 0 and (ARGV[5] == '1' or ahead < free) then
  if place then
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('ZREM', KEYS[3], ARGV[1])
    waiters = waiters - 1
  end
  if ticket and waiters == 0 then
    redis.call('HDEL', KEYS[1], 't')
  end
  -- At least the time of day: fences grow even if the lease was lost.
  fence = math.max(fence + 1, us)
  local text = string.format('%.0f', fence)
  redis.call('HSET', KEYS[1], 'f', text, own, (now + ttl) .. ' ' .. text .. ' ' .. now)
  redis.call('PEXPIRE', KEYS[1], math.max(last_end, now + ttl) - now + ARGV[7])
  if waiters > 0 and free > 1 then
    call_first(KEYS[2], KEYS[1])
  end
  return { 1, fence, ttl }
end

if ARGV[4] ~= '' then
  if not place then
    if waiters >= tonumber(ARGV[6]) then
      return { 2 }
    end
    local number = redis.call('HINCRBY', KEYS[1], 't', 1)
    if number == 1 then
      -- Left by a lease that was lost; their tickets are no longer known to be smaller.
      redis.call('DEL', KEYS[2], KEYS[3])
    end
    redis.call('ZADD', KEYS[2], number, ARGV[1])
  end
  redis.call('ZADD', KEYS[3], now + ARGV[4], ARGV[1])
  keep(KEYS[2], ARGV[4] + 1000, ARGV[4] + 10000)
  keep(KEYS[3], ARGV[4] + 1000, ARGV[4] + 10000)
end
local event = first_end
if ahead > 0 then
  local first = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  local poll_by = first and redis.call('ZSCORE', KEYS[3], first)
  if first and not poll_by then
    -- Half of what is known of it was lost: without this, nobody would take it for dead.
    redis.call('ZREM', KEYS[2], first)
  end
  event = (tonumber(poll_by) or now) + 1
end
return { 0, ahead, math.max(event - now, 0) }
