-- Gives open commands of a node that is gone to another one. KEYS: timeline
-- ARGV: timeline, prefix, the node that is gone, its heir, how many at most, bytes that are enough for one answer
-- Gives the time, then id and contents of each. Empty once there are none.
local of, heir = prefix .. 'commands:of:' .. ARGV[3], prefix .. 'commands:of:' .. ARGV[4]
local out, spent = {now}, 0
repeat
  local ids = call('ZRANGE', of, 0, ARGV[5] - 1)
  for _, id in ipairs(ids) do
    local key = prefix .. 'command:{' .. id .. '}'
    local there = call('HMGET', key, 'd', 'f', 't')
    if there[1] == ARGV[3] and not there[2] then
      call('HSET', key, 'd', ARGV[4])
      call('ZADD', heir, there[3], id)
      local all = call('HGETALL', key)
      for _, word in ipairs(all) do spent = spent + #word end
      out[#out + 1] = id
      out[#out + 1] = all
    end
    call('ZREM', of, id)
    if spent > ARGV[6] + 0 then break end
  end
until #out > 1 or #ids == 0
return out
