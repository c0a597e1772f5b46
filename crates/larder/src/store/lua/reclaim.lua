-- Removes entries that are not valid any more, and members that no entry owns.
-- KEYS: 1 register, then entry and members in turn
-- ARGV: 1 the most entries to remove     2 R remove, C only count
-- Returns: how many entries were removed, and for each other one with tags its place among the pairs, from 0 on, and
-- the names of its registers
-- Removes members, if that is what the key holds.
local function drop(members)
  if redis.call('TYPE', members).ok == 'zset' then
    redis.call('UNLINK', members)
  end
end

local stamp = redis.call('GET', KEYS[1])
local removed, most, tagged = 0, tonumber(ARGV[1]), {}
for at = 2, #KEYS, 2 do
  if removed >= most then
    break
  end
  local head = redis.pcall('GETRANGE', KEYS[at], 0, 127)
  if type(head) == 'table' or (#head > 0 and not string.find(string.sub(head, 1, 1), '[ECZUL]')) then
    -- Somebody else's: leave it alone.
  elseif #head > 0 and (not stamp or string.sub(head, 2, 9) ~= stamp) then
    if ARGV[2] == 'R' then
      redis.call('UNLINK', KEYS[at])
      drop(KEYS[at + 1])
    end
    removed = removed + 1
  else
    local kind = string.sub(head, 1, 1)
    if kind ~= 'Z' and ARGV[2] == 'R' then
      drop(KEYS[at + 1])
    end
    local found = #head > 25 and stamps(KEYS[at], kind, head)
    if found then
      tagged[#tagged + 1] = { (at - 2) / 2, names_of(found) }
    end
  end
end
return { removed, tagged }
