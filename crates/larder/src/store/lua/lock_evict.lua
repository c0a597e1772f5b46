-- Ends all leases of a name, and calls the first waiter.
-- KEYS: 1 lease, 2 queue, 3 poll-by
-- Returns: how many there were
local now, count, names, is_waited_for = math.floor(now_us() / 1000), 0, {}, false
local fields = redis.call('HGETALL', KEYS[1])
for at = 1, #fields, 2 do
  local name, value = fields[at], fields[at + 1]
  if name == 't' then
    is_waited_for = true
  elseif name ~= 'f' then
    names[#names + 1] = name
    local ends = tonumber(string.match(value, '^%d+'))
    count = count + (ends and ends > now and 1 or 0)
  end
end
if #names > 0 then
  redis.call('HDEL', KEYS[1], unpack(names))
end
if is_waited_for then
  drop_dead(KEYS[2], KEYS[3], now)
  call_first(KEYS[2], KEYS[1])
end
return count
