-- Gives an answer, unless its turn is over.
-- KEYS: the answer, the turns
local kept = redis.call('HMGET', KEYS[1], 'answer', 'feature', 'all', 'turn')
if not kept[1] or not kept[2] then
  return false
end
local turns = redis.call('HMGET', KEYS[2], '', kept[2])
if (turns[1] or '') ~= kept[3] or (turns[2] or '') ~= kept[4] then
  return false
end
return kept[1]
