-- All that a node publishes in a turn of its reactor, in runs of one type.
-- KEYS: timeline; then for each run: hash, list
-- ARGV: timeline, prefix, birth for new types; then for each run: about channel, event channel, bounds as
--   "count,age in ms,bytes,bytes of all types", bytes of this run, n, n times data,
--   '' or the lengths of what is said of each, joined by commas, then a line feed and all of that in a row;
--   then for each event to retain: number of its run, its place in that, number of its data here, ms to keep it, what is said of it
-- Gives for each run the position of its first event, or what Redis refused it for after '-'; after that, if any event was
-- retained: number and bytes of all retained events, and how many were dropped for others.
--
-- A type is a hash and a list, which always ends at the offset `s`.
-- t: timeline of the last event, b: birth, p: earlier timelines and where they ended, f: not its first birth
-- s: offset of the last event, c: bytes of all events ever, d: bytes of those before the first in the list
-- m: marks "offset,bytes,ms;"; the next one is due at the offset `o`, at `y` bytes or at the time `x`
--
-- Redis looks whether it has memory at the first write only, so that must be one that takes some: HSET or RPUSH.
local a, out = 4, {}
for k = 2, #KEYS, 2 do
  local key, list, n = KEYS[k], KEYS[k + 1], tonumber(ARGV[a + 4])
  local h = call('HMGET', key, 't', 's', 'c', 'b', 'o', 'x', 'y')
  local was, s, c, birth, due, due_at, due_bytes = h[1], h[2], h[3], h[4], h[5], h[6], h[7]
  if was ~= timeline then
    -- Seldom: the type is new, an older timeline has ended, or another link has opened another one.
    if call('GET', KEYS[1]) ~= timeline then return redis.error_reply('TIMELINE is another one') end
    if not was then birth, s, c, due, due_at, due_bytes = ARGV[3] .. k, 0, 0, 0, 0, 0 end
    enter(key, list, was, s, birth)
  end

  local from, to, length = a + 5, a + 4 + n, nil
  local said, last = ARGV[to + 1], ARGV[to]
  local size = ARGV[a + 3]
  if said == '' then
    -- The last of a run carries the time of all.
    ARGV[to] = '\1' .. now .. ':0:' .. last
    length = call('RPUSH', list, unpack(ARGV, from, to))
    ARGV[to] = last
  else
    local place, i, entries = string.find(said, '\n', 1, true) + 1, from, {}
    for bytes in string.gmatch(string.sub(said, 1, place - 1), '%d+') do
      local stop = place + bytes
      entries[#entries + 1] = '\1' .. (i == to and now or '') .. ':' .. bytes .. ':' .. string.sub(said, place, stop - 1) .. ARGV[i]
      place, i = stop, i + 1
    end
    length = call('RPUSH', list, unpack(entries))
  end

  local at = timeline .. '.' .. birth .. ':' .. (s + 1)
  local sent = try('PUBLISH', ARGV[a], at .. ' ' .. n .. (said == '' and '' or ' ' .. said))
  local told = type(sent) == 'number'
  if told then sent = try('PUBLISH', ARGV[a + 1], ARGV[from]) end
  if type(sent) == 'number' then
    for i = from + 1, to do call('PUBLISH', ARGV[a + 1], ARGV[i]) end
    s, c = s + n, c + size
    if length > n and now < due_at + 0 and s < due + 0 and c < due_bytes + 0 then
      call('HSET', key, 's', s, 'c', c)
    else
      mark(key, list, ARGV[a + 2], length, n, size, s, c)
    end
    out[#out + 1] = at
  else
    -- A channel on which this user may not publish: nothing of the run stays.
    call('LTRIM', list, 0, -n - 1)
    if told then call('PUBLISH', ARGV[a], '-') end
    out[#out + 1] = '-' .. sent.err
  end
  a = to + 2
end
if ARGV[a] then
  local count, bytes, evicted = nil, nil, 0
  for i = a, #ARGV, 5 do
    local epoch, first = string.match(out[tonumber(ARGV[i])], '^([^-].*):(%d+)$')
    if epoch then
      local event_type = string.sub(KEYS[2 * ARGV[i]], #prefix + 7, -2)
      local at, dropped = epoch .. ':' .. string.format('%.0f', first + ARGV[i + 1]), nil
      count, bytes, dropped = retain(event_type, at, ARGV[i + 4], ARGV[tonumber(ARGV[i + 2])], ARGV[i + 3])
      evicted = evicted + dropped
    end
  end
  if count then
    out[#out + 1] = count
    out[#out + 1] = bytes
    out[#out + 1] = evicted
  end
end
return out
