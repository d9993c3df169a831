-- A type begins. Its first birth is told from a later one by the index, which says so of every type that it knows. An index
-- that has lost anything has lost its mark, and then no birth is known to be the first.
local function begin(key, birth)
  local types, sizes = prefix .. 'types', prefix .. 'sizes'
  local event_type = string.sub(key, #prefix + 7, -2)
  local again = not call('ZSCORE', types, '\1' .. timeline) or call('ZSCORE', types, event_type)
  call('HSET', key, 't', timeline, 'b', birth, 's', 0, 'c', 0, 'd', 0, 'o', 0, 'y', 0, 'x', 0, 'p', '', 'm', '', 'f', again and '1' or '')
  call('PEXPIRE', key, 86400000)
  call('ZADD', types, now, event_type)
  if call('ZCARD', types) > MAX_TYPES then
    -- Types that were last used longest ago go; from now on nobody can say of one that it was never there before.
    call('ZREM', types, '\1' .. timeline)
    for _, old in ipairs(call('ZRANGE', types, 0, 15)) do
      call('ZREM', types, old)
      call('ZREM', prefix .. 'logs', old)
      call('HINCRBY', sizes, '', 0 - (call('HGET', sizes, old) or 0))
      call('HDEL', sizes, old)
      call('UNLINK', prefix .. 'type:{' .. old .. '}', prefix .. 'log:{' .. old .. '}')
    end
  end
end

-- The first event of a type, or its first one under this timeline.
local function enter(key, list, was, s, birth)
  if not was then
    begin(key, birth)
    if call('EXISTS', list) == 1 then call('UNLINK', list) end
    return
  end
  local past = (call('HGET', key, 'p') or '') .. was .. ':' .. s .. ','
  while #past > 512 do past = string.sub(past, string.find(past, ',', 1, true) + 1) end
  call('HSET', key, 't', timeline, 'p', past)
end
