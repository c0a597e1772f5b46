-- Ends an owner's lease and its place in the queue, and calls the first waiter. Here is all that has to be done if nobody
-- waits; it comes before the functions that all share, since to make them takes time, as does to ask for the time: a
-- lease that has ended, while nobody else was let in, counts as held.
-- KEYS: 1 lease, 2 queue, 3 poll-by, 4 history
-- ARGV: 1 owner     2 for how long it was held, in ms; '': not to be remembered     3 how many hold times are remembered
--       4 for how long, in ms
-- Returns: 1; 0: it held no lease
local own = 'h' .. ARGV[1]
local known = redis.call('HMGET', KEYS[1], own, 't')
local was_held = 0
if known[1] then
  was_held = redis.call('HDEL', KEYS[1], own)
end
if ARGV[2] == '' and not known[2] then
  return was_held
end
