-- Lengthens a lease.
-- KEYS: the record; ARGV: ticket, lease, how long it outlives its lease
local record = redis.call('HMGET', KEYS[1], 'ticket', 'answer')
if record[1] ~= ARGV[1] or record[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- First what takes no room: see complete.lua.
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[2] + ARGV[3]))
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2]))
return 1
