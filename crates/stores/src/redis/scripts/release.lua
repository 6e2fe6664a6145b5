-- Gives a key back.
-- KEYS: the record; ARGV: ticket, channel, what to say there
local record = redis.call('HMGET', KEYS[1], 'ticket', 'answer')
if record[1] == ARGV[1] and not record[2] then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return 0
