-- Put in front of every script. An entry is there if its stamp equals the register of its namespace, and each stamp in
-- its envelope the register of a tag; a missing register makes it absent. Frame: see store/redis/frame.rs; envelope: see
-- envelope.rs. A register of a tag: hard number, soft number, the namespace register when it was made; 8 bytes each.
--
-- Scripts about an entry have KEYS: 1 entry, 2 register of the namespace, 3 one of their own, 4 journal, 5.. the registers
-- of tags that the caller believes the entry to depend on, or needs himself. If the entry depends on another one, they do
-- nothing and return { 'registers', names }: the caller comes again with these. What they change they note in the journal,
-- behind the change: see store/redis/journal.

-- As REGISTER_GRACE_MS.
local GRACE_MS = 60000
-- About how many records a journal keeps; as MAX_RECORDS.
local MAX_RECORDS = 4096
-- A journal tells of an entry that is gone, or is another one in a way that its write id does not tell.
local NO_WRITE_ID = string.rep('\0', 8)
-- A register that lives longer than this is under suspicion: see retire.lua. No entry lives so long.
local SUSPECTED_MS = 60000000000000

-- Returns what a key names behind the namespace: a register of a tag, or the user's key.
local function named(key)
  return string.sub(key, #KEYS[2] + 2)
end

-- Returns the names and stamps of the registers of tags in the envelope of a frame that begins so; nil: none.
local function stamps(entry, kind, start)
  local at = 25
  if kind == 'C' then
    at = 26 + (string.byte(start, 26) or 0)
  end
  local count = string.byte(start, at + 55)
  if not count or count == 0 or string.sub(start, at + 1, at + 4) ~= 'LRDR' then
    return nil
  end
  local length = string.byte(start, at + 53) + 256 * string.byte(start, at + 54)
  local header = redis.call('GETRANGE', entry, at, at + length - 1)
  local from, found = 65 + (string.byte(header, 56) or 0), {}
  for _ = 1, count do
    local low, high = string.byte(header, from + 1, from + 2)
    if not high then
      return nil
    end
    local behind = from + 3 + low + 256 * high
    local stamp = string.sub(header, behind, behind + 15)
    if #stamp ~= 16 then
      return nil
    end
    local letter = string.sub(header, from, from)
    if letter == '=' or letter == '/' then
      found[#found + 1] = { letter .. string.sub(header, from + 3, behind - 1), stamp }
    end
    from = behind + 16
  end
  return #found > 0 and found or nil
end

-- Returns the names of registers.
local function names_of(found)
  local names = {}
  for n, pair in ipairs(found) do
    names[n] = pair[1]
  end
  return names
end

-- Judges stamps by the registers among KEYS; one that was made before the namespace was cleared is none. Returns nil if one does not hold, else a table: `ask`, the names that the
-- caller must come with, or `keys`, the registers, and `stale`.
local function judge(found, life)
  local known, tags = {}, { keys = {}, stale = false }
  for at = 5, #KEYS do
    known[named(KEYS[at])] = KEYS[at]
  end
  for _, pair in ipairs(found) do
    local key = known[pair[1]]
    if key then
      local now = redis.call('GET', key)
      local is_live = now and #now == 24 and string.sub(now, 17) == life
      if not is_live or string.sub(now, 1, 8) ~= string.sub(pair[2], 1, 8) then
        return nil
      end
      tags.stale = tags.stale or string.sub(now, 9, 16) ~= string.sub(pair[2], 9, 16)
      tags.keys[#tags.keys + 1] = key
    else
      tags.ask = true
    end
  end
  tags.ask = tags.ask and names_of(found)
  return tags
end

-- Returns the kind and the 25 bytes of the head of the entry that is there (nil if there is none), the register of the
-- namespace (or false), and for an entry with tags what `judge` says. The kind L is the mark of a load.
local function present()
  local stamp = redis.call('GET', KEYS[2])
  if stamp and #stamp ~= 8 then
    -- Nothing of ours: no entry can carry it.
    stamp = false
  end
  -- Long enough for the fixed part of any envelope, also behind the text of a counter.
  local start = redis.call('GETRANGE', KEYS[1], 0, 127)
  if not stamp or #start < 25 or string.sub(start, 2, 9) ~= stamp then
    return nil, nil, stamp
  end
  local kind, tags = string.sub(start, 1, 1), nil
  local found = stamps(KEYS[1], kind, start)
  if found then
    tags = judge(found, stamp)
    if not tags then
      return nil, nil, stamp
    end
  end
  return kind, string.sub(start, 1, 25), stamp, tags
end

-- Keeps a register for so many ms at least. One that was under suspicion is kept for good again.
local function keep(key, ms)
  local left = redis.call('PTTL', key)
  if left > SUSPECTED_MS then
    redis.call('PERSIST', key)
  elseif left >= 0 and left < ms then
    redis.call('PEXPIRE', key, ms)
  end
end

-- Returns the stamps of the registers from KEYS[first] to KEYS[last], which are kept for so many ms at least. What is
-- missing, or was made before the namespace was cleared, is made from ARGV[fresh] on.
local function capture(life, first, last, fresh, ms)
  local values = {}
  for at = first, last do
    local value = redis.call('GET', KEYS[at])
    if value and #value == 24 and string.sub(value, 17) == life then
      keep(KEYS[at], ms)
    else
      value = ARGV[fresh + at - first] .. life
      redis.call('SET', KEYS[at], value, 'PX', ms)
    end
    values[#values + 1] = string.sub(value, 1, 16)
  end
  return values
end

-- Keeps registers longer than the entry.
local function outlive(keys)
  local left = redis.call('PTTL', KEYS[1])
  for _, key in ipairs(keys) do
    if left < 0 then
      redis.call('PERSIST', key)
    else
      keep(key, left + GRACE_MS)
    end
  end
end

-- Returns some of KEYS.
local function keys_between(first, last)
  local keys = {}
  for at = first, last do
    keys[#keys + 1] = KEYS[at]
  end
  return keys
end

-- Adds a record to a journal that somebody reads. One that takes no record, as on a server that is full, ends: then its
-- readers know that they have missed something.
local function record(journal, fields)
  local noted = redis.pcall('XADD', journal, 'NOMKSTREAM', 'MAXLEN', '~', MAX_RECORDS, '*', unpack(fields))
  if type(noted) == 'table' and noted.err then
    redis.call('DEL', journal)
  end
end

-- Notes what the entry has become.
local function note(write_id)
  record(KEYS[4], { 'k', write_id .. named(KEYS[1]) })
end

-- Returns what a note of a new entry tells. One that has the write id of the entry before depends on other tags, which
-- copies of that one do not know.
local function told(write_id)
  if redis.call('GETRANGE', KEYS[1], 17, 24) == write_id then
    return NO_WRITE_ID
  end
  return write_id
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
