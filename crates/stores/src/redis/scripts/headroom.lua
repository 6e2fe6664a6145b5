-- Settles with buckets of limits, and takes from them.
-- KEYS: one hash for each bucket
-- ARGV: not after, then for each bucket the limit for a minute, what to settle, what is wanted
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local said = { string.format('%.0f', now) }
-- It lay here while Redis stood still, and who sent it has long given up.
if now > (tonumber(ARGV[1]) or now) then
  return said
end

for place = 1, #KEYS do
  local limit = tonumber(ARGV[3 * place - 1])
  local settle, wanted = tonumber(ARGV[3 * place]), tonumber(ARGV[3 * place + 1])
  local known = redis.pcall('HMGET', KEYS[place], 'level', 'at')
  if known.err then
    -- Another's, or damaged.
    redis.call('DEL', KEYS[place])
    known = {}
  end
  local level, at = tonumber(known[1] or ''), tonumber(known[2] or '')
  -- Full where nothing is known. A clock that went back refills nothing.
  if not level or level ~= level or not at then
    level, at = limit, now
  end
  level = math.min(level + math.max(now - at, 0) * limit / 60000, limit) - settle
  local granted = math.max(math.min(wanted, level), 0)
  level = math.min(level - granted, limit)
  redis.call('HSET', KEYS[place], 'level', string.format('%.3f', level))
  redis.call('HSET', KEYS[place], 'at', string.format('%.0f', now))
  -- By then it is full, unless it owes more than nine minutes.
  redis.call('PEXPIRE', KEYS[place], 600000)
  said[#said + 1] = string.format('%.3f', granted)
  said[#said + 1] = string.format('%.3f', level)
end
return said
