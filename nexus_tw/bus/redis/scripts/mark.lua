-- After a part of the bounds: notes where the type is, trims what is beyond them, and keeps all types together within theirs.
local function mark(key, list, bounds, length, n, size, s, c)
  local count, age, most, total = string.match(bounds, '(%d+),(%d+),(%d+),(%d+)')
  count, age, most, total = tonumber(count), tonumber(age), tonumber(most), tonumber(total)
  local upto, kept = nil, {}
  local h = call('HMGET', key, 'm', 'd')
  local before = tonumber(h[2] or '0')
  if length == n then before = c - size end
  for o, bytes, ms in string.gmatch(h[1] or '', '(%d+),(%d+),(%d+);') do
    if s - o >= count or now - ms >= age or c - bytes >= most then
      upto, before = o, math.max(before, bytes)
    else
      kept[#kept + 1] = o .. ',' .. bytes .. ',' .. ms .. ';'
    end
  end
  kept[#kept + 1] = string.format('%.0f,%.0f,%.0f;', s, c, now)
  if upto and length > s - upto then
    length = s - upto
    call('LTRIM', list, -length, -1)
  end
  call('HSET', key, 's', s, 'c', c, 'd', before, 'o', s + math.ceil(count / 8), 'y', c + math.ceil(most / 8), 'x', now + age / 8, 'm', table.concat(kept))
  call('PEXPIRE', list, age + age / 4)
  call('PEXPIRE', key, math.max(86400000, 2 * age))

  local event_type = string.sub(key, #prefix + 7, -2)
  local types, logs, sizes = prefix .. 'types', prefix .. 'logs', prefix .. 'sizes'
  local bytes = c - before + 16 * length + 512
  local sum = call('HINCRBY', sizes, '', bytes - (call('HGET', sizes, event_type) or 0))
  call('HSET', sizes, event_type, bytes)
  call('ZADD', types, now, event_type)
  call('ZADD', logs, now + age + age / 4, event_type)
  -- What went by age, then what has to go for the sake of all, those first that would end first.
  local gone = call('ZRANGEBYSCORE', logs, '-inf', now, 'LIMIT', 0, 8)
  while #gone > 0 or sum > total do
    local old = table.remove(gone) or call('ZRANGE', logs, 0, 0)[1]
    if not old then break end
    call('UNLINK', prefix .. 'log:{' .. old .. '}')
    call('ZREM', logs, old)
    sum = call('HINCRBY', sizes, '', 0 - (call('HGET', sizes, old) or 0))
    call('HDEL', sizes, old)
  end
end
