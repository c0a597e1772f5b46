-- Captures registers, and leaves a mark under them that a load is under way, unless there is an entry or such a mark.
-- The mark is an envelope as far as its stamps: nobody opens it, so it has no checksum.
-- KEYS: 1 entry, 2 register, 3 members of a sorted set, 4 journal, 5.. registers of tags, those of the load first
-- ARGV: 1 a fresh register     2 how many registers the load depends on     3 its token, 8 bytes     4 its lease in ms
--       5 when that ends, 8 bytes     6 how long registers are kept at least, in ms
--       7 the fixed part of the mark's envelope     8.. 16 fresh bytes for each register of the load
-- Returns: { 'granted', register, stamps }, { 'busy', register, stamps }: somebody else loads,
-- { 'entry', register, stamps, 1 stale or 0 not, its frame, empty for a sorted set }, or { 'registers', names }
local kind, _, stamp, tags = present()
if tags and tags.ask then
  return { 'registers', tags.ask }
end
stamp = ensure(KEYS[2], stamp, ARGV[1])
local values = capture(stamp, 5, 4 + ARGV[2], 8, tonumber(ARGV[6]))
if kind == 'L' then
  return { 'busy', stamp, values }
end
if kind and kind ~= 'U' then
  local frame = kind ~= 'Z' and redis.call('GET', KEYS[1]) or ''
  return { 'entry', stamp, values, tags and tags.stale and 1 or 0, frame }
end
local mark = { 'L', stamp, ARGV[5], ARGV[3], ARGV[7] }
for n, value in ipairs(values) do
  local name = named(KEYS[4 + n])
  local length = #name - 1
  mark[#mark + 1] = string.sub(name, 1, 1)
  mark[#mark + 1] = string.char(length % 256, math.floor(length / 256))
  mark[#mark + 1] = string.sub(name, 2) .. value
end
redis.call('SET', KEYS[1], table.concat(mark), 'PX', ARGV[4])
redis.call('UNLINK', KEYS[3])
return { 'granted', stamp, values }
