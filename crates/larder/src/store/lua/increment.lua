-- Adds to a counter. Numbers of Lua are doubles, so INCRBY adds, on a scratch key, exactly and with its own check of
-- the range.
-- KEYS: 1 entry, 2 register, 3 scratch, 4 journal, 5.. registers of tags
-- ARGV: 1 what to add     2 a fresh register     3 expiry of a new counter: A, N     4 ttl in ms
--       5 expires at, 8 bytes     6 write id     7 the envelope of a new counter
-- Returns: { 'sum', text }, { 'overflow', text }, or { 'entry' }: there is an entry in another form, for the caller to
-- judge; { 'registers', names }; an error if the server refuses to add
local kind, head, stamp, tags = present()
if tags and tags.ask then
  return { 'registers', tags.ask }
end
if kind == 'L' then
  kind = nil
end
if kind and kind ~= 'C' and kind ~= 'U' then
  return { 'entry' }
end

if kind ~= 'C' then
  stamp = ensure(KEYS[2], stamp, ARGV[2])
  local frame = 'C' .. stamp .. ARGV[5] .. ARGV[6] .. string.char(#ARGV[1]) .. ARGV[1] .. ARGV[7]
  store(KEYS[1], frame, ARGV[3], ARGV[4])
  note(ARGV[6])
  return { 'sum', ARGV[1] }
end

local length = string.byte(redis.call('GETRANGE', KEYS[1], 25, 25))
local old = redis.call('GETRANGE', KEYS[1], 26, 25 + length)
redis.call('SET', KEYS[3], old)
local outcome = redis.pcall('INCRBY', KEYS[3], ARGV[1])
if type(outcome) == 'table' and outcome.err then
  redis.call('DEL', KEYS[3])
  if string.find(outcome.err, 'overflow', 1, true) or string.find(outcome.err, 'out of range', 1, true) then
    return { 'overflow', old }
  end
  -- Anything else, such as a missing permission, is not about the sum.
  return outcome
end
local new = redis.call('GET', KEYS[3])
redis.call('DEL', KEYS[3])
if #new == length then
  redis.call('SETRANGE', KEYS[1], 17, ARGV[6] .. string.char(length) .. new)
else
  local rest = redis.call('GETRANGE', KEYS[1], 26 + length, -1)
  local frame = string.sub(head, 1, 17) .. ARGV[6] .. string.char(#new) .. new .. rest
  redis.call('SET', KEYS[1], frame, 'KEEPTTL')
end
note(ARGV[6])
return { 'sum', new }
