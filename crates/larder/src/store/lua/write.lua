-- One write under a condition.
-- KEYS: 1 entry, 2 register, 3 members of a sorted set, 4 journal, 5.. registers of tags, those of the new entry first
-- ARGV: 1 change: P put, D delete, T touch
--       2 condition: A always, N none there, V none there and nobody loads one, X there, S same write id
--       3 that write id     4 a fresh register     5 expiry: A, N, K     6 ttl in ms     7 expires at, 8 bytes
--       8 how many registers of tags the new entry depends on
--       9 kind of the frame     10 its write id     11 what follows its head     12.. scores and members, for kind Z
-- Returns: { 1 applied or 0 not, the register or false }, or { 'registers', names }
local kind, head, stamp, tags = present()
local condition = ARGV[2]
local is_blind = ARGV[1] == 'P' and condition == 'A' and ARGV[5] ~= 'K'
if tags and tags.ask and not is_blind then
  return { 'registers', tags.ask }
end
local loading = kind == 'L'
local readable = kind and kind ~= 'U' and not loading
local holds = condition == 'A'
  or (condition == 'N' and not readable)
  or (condition == 'V' and not readable and not loading)
  or (condition == 'X' and readable)
  or (condition == 'S' and kind and string.sub(head, 18, 25) == ARGV[3])
if not holds then
  return { 0, stamp }
end

if ARGV[1] == 'D' then
  redis.call('UNLINK', KEYS[1], KEYS[3])
  -- Also where nothing is left: copies may outlive what was evicted. Who ends his own load changes no value.
  if not loading or condition ~= 'S' then
    note(NO_WRITE_ID)
  end
  return { kind and not loading and 1 or 0, stamp }
end

if ARGV[1] == 'T' then
  -- Only who loads may give himself more time.
  if not kind or (loading and condition ~= 'S') then
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
    outlive(tags and tags.keys or {})
    if not loading then
      note(NO_WRITE_ID)
    end
  end
  return { 1, stamp }
end

stamp = ensure(KEYS[2], stamp, ARGV[4])
local expiry, expires = ARGV[5], ARGV[7]
if expiry == 'K' then
  if kind and not loading then
    expires = string.sub(head, 10, 17)
  else
    expiry = 'N'
  end
end
local noted = told(ARGV[10])
store(KEYS[1], ARGV[9] .. stamp .. expires .. ARGV[10] .. ARGV[11], expiry, ARGV[6])
if kind == 'Z' or ARGV[9] == 'Z' then
  redis.call('UNLINK', KEYS[3])
end
if ARGV[9] == 'Z' then
  add(KEYS[3], 12)
  follow(KEYS[3], KEYS[1])
end
if ARGV[8] ~= '0' then
  outlive(keys_between(5, 4 + ARGV[8]))
end
-- The mark of a load is no value, but may take the place of one.
if ARGV[9] ~= 'L' then
  note(noted)
elseif kind and not loading then
  note(NO_WRITE_ID)
end
return { 1, stamp }
