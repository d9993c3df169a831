-- A few of the events after a position, or the oldest that are kept. KEYS: timeline, hash, list
-- ARGV: timeline, prefix, timeline, birth and offset of the position (or '' thrice), limit, count, age in ms, bytes
-- Gives the time, epoch, offset, 1 or 0, the offset before the first, events. More than the limit may come: the last one says
-- when those before it were published.
local h = call('HMGET', KEYS[2], 't', 'b', 's', 'p', 'f')
if not h[1] then return {now, timeline .. '.-', '0', ARGV[3] == '' and 1 or 0, '0', {}} end
local s, limit, count = tonumber(h[3]), ARGV[6] + 0, ARGV[7] + 0
local epoch, length = h[1] .. '.' .. h[2], call('LLEN', KEYS[3])
local so
if ARGV[3] ~= '' then
  so = tonumber(ARGV[5])
  if not follows(h, ARGV[3], ARGV[4], so) or s - so > math.min(count, length) then
    return {now, epoch, h[3], 0, '0', {}}
  end
else
  so = s - math.min(count, length)
end
local got = so < s and call('LRANGE', KEYS[3], so - s, -1) or {}
-- From the last one back: how far the bounds of age and bytes reach.
local oldest, size, first = now - ARGV[8], 0, 1
for i = #got, 1, -1 do
  local entry = got[i]
  local millis, said, data = string.match(entry, '^\1(%d*):(%d+):()')
  size = size + #entry - (data and data - 1 or 0)
  if size > ARGV[9] + 0 or (millis and millis ~= '' and tonumber(millis) < oldest) then
    first = i + 1
    break
  end
end
if first > 1 and ARGV[3] ~= '' then return {now, epoch, h[3], 0, '0', {}} end
local out = {}
for i = first, #got do
  out[#out + 1] = got[i]
  if #out >= limit and string.find(got[i], '^\1%d') then break end
end
return {now, epoch, h[3], 1, so + first - 1, out}
