-- Reads what is known of a name; changes nothing.
-- KEYS: 1 lease, 2 poll-by
-- Returns: { now in ms, how many wait, fields of the lease with their values }
local now = math.floor(now_us() / 1000)
local waiters = redis.call('ZCOUNT', KEYS[2], now, '+inf')
return { now, waiters, redis.call('HGETALL', KEYS[1]) }
