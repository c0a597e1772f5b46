-- Goes on after lock_release_only.lua, which tells what KEYS, ARGV and the reply are.
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
  drop_dead(KEYS[2], KEYS[3], math.floor(now_us() / 1000))
  if not call_first(KEYS[2], KEYS[1]) then
    redis.call('HDEL', KEYS[1], 't')
  end
end
return was_held
