-- Buries a node if its beats are those that were observed: 0 where it has none, any for ''.
-- KEYS: timeline, beats, buried, legacy, a key to try with. ARGV: timeline, prefix, node, beats, heir, most buried nodes.
-- Gives 1 if this has buried it, 2 if it was buried before, 0 if it lives, or if its heir does not.
local node, seen, heir, beats, buried, legacy = ARGV[3], ARGV[4], ARGV[5], KEYS[2], KEYS[3], KEYS[4]
if call('ZSCORE', buried, node) then return {2} end
if call('ZSCORE', buried, heir) then return {0} end
if seen ~= '' and (call('HGET', beats, node) or '0') ~= seen then return {0} end
call('UNLINK', KEYS[5])
call('HDEL', beats, node)
call('ZADD', buried, now, node)
local left = call('HGETALL', legacy)
for k = 1, #left, 2 do
  if left[k + 1] == node then call('HSET', legacy, left[k], heir) end
end
call('HSET', legacy, node, heir)
local over = call('ZCARD', buried) - ARGV[6]
if over > 0 then
  for _, oldest in ipairs(call('ZRANGE', buried, 0, over - 1)) do
    call('ZREM', buried, oldest)
    call('HDEL', legacy, oldest)
  end
end
return {1}
