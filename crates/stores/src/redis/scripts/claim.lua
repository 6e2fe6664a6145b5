-- Claims a key for a call.
-- KEYS: the record, the ledger; ARGV: not after, input, lease, how long it outlives its lease, epoch, count, how long a loss
-- matters, the claimant's own ticket ('' for none), 'anew' where the answer cannot be read
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
  elseif not record[4] and record[2] ~= ARGV[8] then
    return { 'busy', told, string.format('%.0f', over - now) }
  elseif record[4] and ARGV[9] ~= 'anew' then
    return { 'done', told, record[4] }
  end
end
-- Of the time, so that not even a record that was lost gives the same one again.
local ticket = ARGV[8]
if ticket == '' then
  ticket = math.max(time[1] * 1000000 + time[2], (tonumber(record[2] or '') or 0) + 1)
  ticket = string.format('%.0f', ticket)
end
-- The first write takes room, so that a Redis without any refuses it: after a deletion it would not.
redis.call('HSET', KEYS[1], 'input', ARGV[2], 'ticket', ticket, 'until', string.format('%.0f', now + ARGV[3]))
redis.call('HDEL', KEYS[1], 'answer')
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[3] + ARGV[4]))
-- The ledger: since when there are records here, and how many there were. Whoever knows of another beginning, or of more, knows
-- of a loss: all are told of it for as long as it matters.
local ledger = redis.call('HMGET', KEYS[2], 'epoch', 'count', 'lost')
local epoch, count, lost = ledger[1] or time[1] .. string.format('%06d', time[2]), tonumber(ledger[2] or '') or 0, tonumber(ledger[3] or '')
if ARGV[5] ~= '' and (ARGV[5] ~= epoch or count < tonumber(ARGV[6])) then
  lost = now
end
count = string.format('%.0f', count + 1)
redis.call('HSET', KEYS[2], 'epoch', epoch, 'count', count)
if lost then
  redis.call('HSET', KEYS[2], 'lost', string.format('%.0f', lost))
end
local is_lost = lost and lost + ARGV[7] > now and '1' or '0'
-- Who held it before has never said what came of its call.
return { record[1] and not record[4] and record[2] ~= ticket and 'inherited' or 'won', told, ticket, epoch, count, is_lost }
