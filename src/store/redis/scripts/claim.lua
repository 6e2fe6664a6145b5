-- Claims a key for a call.
-- KEYS: the record; ARGV: not after, input, lease, how long it outlives its lease, 'anew' where the answer cannot be read
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local told = string.format('%.0f', now)
-- It lay here while Redis stood still: nobody would give the key back.
if now > (tonumber(ARGV[1]) or now) then
  return { 'late', told }
end
local record = redis.call('HMGET', KEYS[1], 'input', 'ticket', 'until', 'answer')
local over = tonumber(record[3] or '')
if record[1] and over and over > now then
  if record[1] ~= ARGV[2] then
    return { 'conflict', told }
  elseif not record[4] then
    return { 'busy', told, string.format('%.0f', over - now) }
  elseif ARGV[5] ~= 'anew' then
    return { 'done', told, record[4] }
  end
end
-- Of the time, so that not even a record that was lost gives the same one again.
local ticket = math.max(time[1] * 1000000 + time[2], (tonumber(record[2] or '') or 0) + 1)
ticket = string.format('%.0f', ticket)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'input', ARGV[2], 'ticket', ticket, 'until', string.format('%.0f', now + ARGV[3]))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[3] + ARGV[4]))
return { 'won', told, ticket }
