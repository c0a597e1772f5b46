-- Put in front of every script. An entry is live if its stamp equals the register of its namespace; a missing
-- register makes every entry absent. Frame: see store/redis/frame.rs.

-- Returns the kind and the 25 bytes of the head of a live entry (nil if there is none), and the register (or false).
local function live(entry, register)
  local stamp = redis.call('GET', register)
  if stamp and #stamp ~= 8 then
    -- Nothing of ours: no entry can carry it.
    stamp = false
  end
  local head = redis.call('GETRANGE', entry, 0, 24)
  if stamp and #head == 25 and string.sub(head, 2, 9) == stamp then
    return string.sub(head, 1, 1), head, stamp
  end
  return nil, nil, stamp
end

-- Returns the register, created from `fresh` if it was missing.
local function ensure(register, stamp, fresh)
  if stamp then
    return stamp
  end
  redis.call('SET', register, fresh)
  return fresh
end

-- Stores bytes with an expiry: 'A' after ttl ms, 'N' never, 'K' as the present entry.
local function store(key, bytes, expiry, ttl)
  if expiry == 'A' then
    redis.call('SET', key, bytes, 'PX', ttl)
  elseif expiry == 'K' then
    redis.call('SET', key, bytes, 'KEEPTTL')
  else
    redis.call('SET', key, bytes)
  end
end

-- Gives the members of a sorted set the expiry of their entry.
local function follow(members, entry)
  local left = redis.call('PTTL', entry)
  if left >= 0 then
    redis.call('PEXPIRE', members, math.max(left, 1))
  else
    redis.call('PERSIST', members)
  end
end

-- Adds score, member, score, member .. from ARGV[first] on; returns how many are new.
local function add(members, first)
  local added = 0
  for from = first, #ARGV, 4000 do
    added = added + redis.call('ZADD', members, unpack(ARGV, from, math.min(from + 3999, #ARGV)))
  end
  return added
end
