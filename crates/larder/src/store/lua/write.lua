-- One write under a condition.
-- KEYS: 1 entry, 2 register, 3 members of a sorted set
-- ARGV: 1 change: P put, D delete, T touch     2 condition: A always, N none there, X there, S same write id
--       3 that write id     4 a fresh register     5 expiry: A, N, K     6 ttl in ms     7 expires at, 8 bytes
--       8 kind of the frame     9 its write id     10 what follows its head     11.. scores and members, for kind Z
-- Returns: { 1 applied or 0 not, the register or false }
local kind, head, stamp = live(KEYS[1], KEYS[2])
local readable = kind and kind ~= 'U'
local condition = ARGV[2]
local holds = condition == 'A'
  or (condition == 'N' and not readable)
  or (condition == 'X' and readable)
  or (condition == 'S' and kind and string.sub(head, 18, 25) == ARGV[3])
if not holds then
  return { 0, stamp }
end

if ARGV[1] == 'D' then
  redis.call('UNLINK', KEYS[1], KEYS[3])
  return { kind and 1 or 0, stamp }
end

if ARGV[1] == 'T' then
  if not kind then
    return { 0, stamp }
  end
  if ARGV[5] ~= 'K' then
    redis.call('SETRANGE', KEYS[1], 9, ARGV[7])
    if ARGV[5] == 'A' then
      redis.call('PEXPIRE', KEYS[1], ARGV[6])
    else
      redis.call('PERSIST', KEYS[1])
    end
    if kind == 'Z' then
      follow(KEYS[3], KEYS[1])
    end
  end
  return { 1, stamp }
end

stamp = ensure(KEYS[2], stamp, ARGV[4])
local expiry, expires = ARGV[5], ARGV[7]
if expiry == 'K' then
  if kind then
    expires = string.sub(head, 10, 17)
  else
    expiry = 'N'
  end
end
store(KEYS[1], ARGV[8] .. stamp .. expires .. ARGV[9] .. ARGV[10], expiry, ARGV[6])
if kind == 'Z' or ARGV[8] == 'Z' then
  redis.call('UNLINK', KEYS[3])
end
if ARGV[8] == 'Z' then
  add(KEYS[3], 11)
  follow(KEYS[3], KEYS[1])
end
return { 1, stamp }
