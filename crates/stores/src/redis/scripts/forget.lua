-- Forgets all answers, or those of a feature: their turn is over. They take room until their time is over, too.
-- KEYS: the turns; ARGV: feature ('' for all, else behind an '=')
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], time[1] .. string.format('%06d', time[2]))
return 0
