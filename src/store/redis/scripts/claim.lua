-- Claims a key for a call.
-- KEYS: the record; ARGV: input, lease, how long it outlives its lease, 'anew' where the answer cannot be read
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local record = redis.call('HMGET', KEYS[1], 'input', 'ticket', 'until', 'answer')
local over = tonumber(record[3] or '')
if record[1] and over and over > now then
  if record[1] ~= ARGV[1] then
    return { 'conflict' }
  elseif not record[4] then
    return { 'busy', string.format('%.0f', over - now) }
  elseif ARGV[4] ~= 'anew' then
    return { 'done', record[4] }
  end
end
-- Of the time, so that not even a record that was lost gives the same one again.
local ticket = math.max(time[1] * 1000000 + time[2], (tonumber(record[2] or '') or 0) + 1)
ticket = string.format('%.0f', ticket)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'input', ARGV[1], 'ticket', ticket, 'until', string.format('%.0f', now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[2] + ARGV[3]))
return { 'won', ticket }
