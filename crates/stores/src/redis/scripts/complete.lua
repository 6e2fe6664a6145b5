-- Writes an answer down.
-- KEYS: the record; ARGV: ticket, time to live, answer, channel, what to say there
local record = redis.call('HMGET', KEYS[1], 'ticket', 'answer')
if record[1] ~= ARGV[1] or record[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A key that was won can be completed, also where there is no room by now: after a first write that takes none, Redis lets
-- the next one pass. No new key is won then, so that only what is under way goes over its limit.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2]), 'answer', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
