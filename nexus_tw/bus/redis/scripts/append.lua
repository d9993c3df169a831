-- Publishes a run of events of one type and puts them into its history, or neither. They are `words` from `from` to `to`;
-- `said` is '' or what `publish.lua` says about it. Gives the position of the first event; nothing and the error if Redis refuses
-- to publish; nothing under another timeline than that of the link, before anything has changed.
--
-- A type is a hash and a list, which always ends at the offset `s`.
-- t: timeline of the last event, b: birth, p: earlier timelines and where they ended, f: not its first birth
-- s: offset of the last event, c: bytes of all events ever, d: bytes of those before the first in the list
-- m: marks "offset,bytes,ms;"; the next one is due at the offset `o`, at `y` bytes or at the time `x`
--
-- Redis looks whether it has memory at the first write only, so that must be one that takes some: HSET or RPUSH.
local function append(key, list, fresh, about, channel, bounds, size, words, from, to, said)
  local n = to - from + 1
  local h = call('HMGET', key, 't', 's', 'c', 'b', 'o', 'x', 'y')
  local was, s, c, birth, due, due_at, due_bytes = h[1], h[2], h[3], h[4], h[5], h[6], h[7]
  if was ~= timeline then
    -- Seldom: the type is new, an older timeline has ended, or another link has opened another one.
    if call('GET', KEYS[1]) ~= timeline then return end
    if not was then birth, s, c, due, due_at, due_bytes = fresh, 0, 0, 0, 0, 0 end
    enter(key, list, was, s, birth)
  end

  local last, length = words[to], nil
  if said == '' then
    -- The last of a run carries the time of all.
    words[to] = '\1' .. now .. ':0:' .. last
    length = call('RPUSH', list, unpack(words, from, to))
    words[to] = last
  else
    local place, i, entries = string.find(said, '\n', 1, true) + 1, from, {}
    for bytes in string.gmatch(string.sub(said, 1, place - 1), '%d+') do
      local stop = place + bytes
      entries[#entries + 1] = '\1' .. (i == to and now or '') .. ':' .. bytes .. ':' .. string.sub(said, place, stop - 1) .. words[i]
      place, i = stop, i + 1
    end
    length = call('RPUSH', list, unpack(entries))
  end

  local at = timeline .. '.' .. birth .. ':' .. (s + 1)
  local sent = try('PUBLISH', about, at .. ' ' .. n .. (said == '' and '' or ' ' .. said))
  local told = type(sent) == 'number'
  if told then sent = try('PUBLISH', channel, words[from]) end
  if type(sent) ~= 'number' then
    -- A channel on which this user may not publish: nothing of the run stays.
    call('LTRIM', list, 0, -n - 1)
    if told then call('PUBLISH', about, '-') end
    return nil, sent.err
  end
  for i = from + 1, to do call('PUBLISH', channel, words[i]) end
  s, c = s + n, c + size
  if length > n and now < due_at + 0 and s < due + 0 and c < due_bytes + 0 then
    call('HSET', key, 's', s, 'c', c)
  else
    mark(key, list, bounds, length, n, size, s, c)
  end
  return at
end

