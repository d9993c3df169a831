-- Raises the beats of a node, and tells the roll of the fleet. It begins with a write that takes no memory, after which Redis does
-- not look whether it has any: nodes go on beating without.
-- KEYS: timeline, beats, buried, legacy, a key to try with. ARGV: timeline, prefix, node, most nodes, known nodes.
-- Gives names and beats; the known nodes that were buried; those that this node is to inherit from. Nothing if it was buried; 'full'
-- if there is no room for it.
local node, beats, buried = ARGV[3], KEYS[2], KEYS[3]
if call('ZSCORE', buried, node) then return {} end
call('UNLINK', KEYS[5])
if not call('HGET', beats, node) and call('HLEN', beats) >= ARGV[4] + 0 then
  return {'full'}
end
call('HINCRBY', beats, node, 1)
local gone, mine = {}, {}
for k = 5, #ARGV do
  if call('ZSCORE', buried, ARGV[k]) then gone[#gone + 1] = ARGV[k] end
end
local legacy = call('HGETALL', KEYS[4])
for k = 1, #legacy, 2 do
  if legacy[k + 1] == node then mine[#mine + 1] = legacy[k] end
end
return {call('HGETALL', beats), gone, mine}
