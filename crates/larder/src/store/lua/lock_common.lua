-- What the scripts of locks share. A name has four keys, all in one slot:
--   lease    hash: 'f' the latest fence; 'h<owner>' '<until ms> <fence> <since ms>' of each holder; 't' the latest
--            ticket, which is there as long as somebody may wait: without it, nobody need look at the queue
--   queue    sorted set: owners by ticket
--   poll-by  sorted set: the same owners by when, in ms, they have asked again or are dead
--   history  list: hold times in ms, the latest first
-- Every number stays below 2^53, up to where those of Lua are exact: times in us do until the year 2255. As a text of
-- its own an argument keeps 17 digits, and in a concatenation 14: enough for times in ms, not for fences.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Drops waiters that are dead, a bounded number of them.
local function drop_dead(queue, poll_by, now)
  local dead = redis.call('ZRANGEBYSCORE', poll_by, '-inf', '(' .. now, 'LIMIT', 0, 64)
  if #dead > 0 then
    redis.call('ZREM', poll_by, unpack(dead))
    redis.call('ZREM', queue, unpack(dead))
  end
end

-- Tells the first waiter, if there is one, that it may be its turn; returns whether there is one.
local function call_first(queue, lease)
  local first = redis.call('ZRANGE', queue, 0, 0)[1]
  if not first then
    return false
  end
  -- Waiters come by themselves in the end, if this user may not publish.
  redis.pcall('PUBLISH', lease, first)
  return true
end

-- Makes a key live for so many ms, unless it lives for at least so many anyway.
local function keep(key, at_least, ms)
  if redis.call('PTTL', key) < at_least then
    redis.call('PEXPIRE', key, ms)
  end
end

