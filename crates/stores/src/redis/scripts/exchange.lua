-- What a replica says, and what stands here then.
-- KEYS: notices, totals
-- ARGV: not after, channel, replica, number of notices, then for each name, what ('' for none), age, left;
--       number of counts, then for each name, count
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local said, news, place = { string.format('%.0f', now) }, false, 5
-- It lay here while Redis stood still, and who sent it has long given up.
if now > (tonumber(ARGV[1]) or now) then
  return said
end

local epoch = redis.call('HGET', KEYS[2], '')
if not epoch then
  epoch = time[1] .. string.format('%06d', time[2])
  redis.call('HSET', KEYS[2], '', epoch)
end
said[2] = epoch

for _ = 1, tonumber(ARGV[4]) do
  local name, what, age, left = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2]), tonumber(ARGV[place + 3])
  place = place + 4
  local stands = redis.call('HGET', KEYS[1], name)
  local at = stands and tonumber(string.match(stands, '^(%d+)|%d+|%d+|'))
  -- Neither what is damaged counts, nor what a clock that went back says of the future.
  if not at or at > now then
    at, stands = nil, false
  end
  if what ~= '' and (not at or at <= now - age) then
    stands = string.format('%.0f|%s|%.0f|%s', now - age, ARGV[3], now + left, what)
    redis.call('HSET', KEYS[1], name, stands)
    news = true
  end
  said[#said + 1] = stands or ''
end

local counts = tonumber(ARGV[place])
place = place + 1
for _ = 1, counts do
  local name, count = ARGV[place], ARGV[place + 1]
  place = place + 2
  local total = redis.pcall('HINCRBY', KEYS[2], name, count)
  if type(total) == 'table' then
    -- Damaged, or full up: all totals begin anew.
    said[2] = time[1] .. string.format('%06d', time[2])
    redis.call('HSET', KEYS[2], '', said[2], name, count)
  end
  -- As text: a number of the script's has no room for all of it.
  said[#said + 1] = redis.call('HGET', KEYS[2], name)
end

redis.call('PEXPIRE', KEYS[1], 86400000)
redis.call('PEXPIRE', KEYS[2], 86400000)
if news then
  redis.call('PUBLISH', ARGV[2], '')
end
return said
