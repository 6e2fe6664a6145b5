-- Keeps an answer, with the turns in which it was kept: see forget.lua.
-- KEYS: the answer, the turns; ARGV: answer, for how long, feature ('' for none, else behind an '=')
local turns = redis.call('HMGET', KEYS[2], '', ARGV[3])
-- All fields are written anew; after a deletion Redis would not refuse what it has no room for.
redis.call('HSET', KEYS[1], 'answer', ARGV[1], 'feature', ARGV[3], 'all', turns[1] or '', 'turn', turns[2] or '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0
