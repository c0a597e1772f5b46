-- Removes registers of tags that were made before their namespace was cleared.
-- KEYS: 1 register of the namespace, 2.. registers of tags
-- Returns: how many were removed
local life, removed = redis.call('GET', KEYS[1]), 0
for at = 2, #KEYS do
  local value = redis.pcall('GET', KEYS[at])
  -- What is no register is somebody else's.
  if type(value) == 'string' and #value == 24 and string.sub(value, 17) ~= life then
    redis.call('UNLINK', KEYS[at])
    removed = removed + 1
  end
end
return removed
