-- Retains an event of a type in the place of the one before. `retained` is the index of types by the time at which their event
-- expires, `retained:sizes` has the bytes of each and, under '', of all. Gives count, bytes, and how many were dropped for others.
local function retain(event_type, at, said, data, ttl)
  local index, sizes, key = prefix .. 'retained', prefix .. 'retained:sizes', prefix .. 'retained:{'
  call('SET', key .. event_type .. '}', at .. ' ' .. #said .. '\n' .. said .. data, 'PX', ttl)
  call('ZADD', index, now + ttl, event_type)
  -- Sizes count only together with their index.
  if call('ZCARD', index) == 1 then call('UNLINK', sizes) end
  local bytes = #said + #data + RETAINED_COST
  local sum = call('HINCRBY', sizes, '', bytes - (call('HGET', sizes, event_type) or 0))
  call('HSET', sizes, event_type, bytes)
  local function drop(old)
    call('UNLINK', key .. old .. '}')
    call('ZREM', index, old)
    sum = call('HINCRBY', sizes, '', 0 - (call('HGET', sizes, old) or 0))
    call('HDEL', sizes, old)
  end
  for _, old in ipairs(call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 8)) do drop(old) end
  local count, evicted = call('ZCARD', index), 0
  while count > MAX_RETAINED or sum > MAX_RETAINED_BYTES do
    local old = call('ZRANGE', index, 0, 0)[1]
    if not old then break end
    drop(old)
    count, evicted = count - 1, evicted + 1
  end
  return count, sum, evicted
end

