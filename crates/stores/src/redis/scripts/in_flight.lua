-- Sets a replica's numbers of requests in flight, and returns the other replicas' sums.
-- KEYS: one hash for each name, from replicas to their numbers with the times until which they count
-- ARGV: not after, replica, lease, then for each name the number
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local said = { string.format('%.0f', now) }
-- It lay here while Redis stood still, and who sent it has long given up.
if now > (tonumber(ARGV[1]) or now) then
  return said
end

for place = 1, #KEYS do
  local count, others = tonumber(ARGV[3 + place]), 0
  local known = redis.pcall('HGETALL', KEYS[place])
  if known.err then
    -- Another's, or damaged.
    redis.call('DEL', KEYS[place])
    known = {}
  end
  for at = 1, #known, 2 do
    local number, til = string.match(known[at + 1], '^(%d+)|(%d+)$')
    -- A clock that went back leaves numbers that count too long.
    if not number or tonumber(til) <= now or tonumber(til) > now + ARGV[3] then
      redis.call('HDEL', KEYS[place], known[at])
    elseif known[at] ~= ARGV[2] then
      others = others + number
    end
  end
  if count > 0 then
    redis.call('HSET', KEYS[place], ARGV[2], string.format('%.0f|%.0f', count, now + ARGV[3]))
    redis.call('PEXPIRE', KEYS[place], ARGV[3])
  else
    redis.call('HDEL', KEYS[place], ARGV[2])
  end
  said[#said + 1] = string.format('%.0f', others)
end
return said
