-- All that a node publishes in a turn of its reactor, in runs of one type.
-- KEYS: timeline; then for each run: hash, list
-- ARGV: timeline, prefix, birth for new types; then for each run: about channel, event channel, bounds as
--   "count,age in ms,bytes,bytes of all types", bytes of this run, n, n times data,
--   '' or the lengths of what is said of each, joined by commas, then a line feed and all of that in a row;
--   then for each event to retain: number of its run, its place in that, number of its data here, ms to keep it, what is said of it
-- Gives for each run the position of its first event, or what Redis refused it for after '-'; after that, if any event was
-- retained: number and bytes of all retained events, and how many were dropped for others.
local a, out = 4, {}
for k = 2, #KEYS, 2 do
  local to = a + 4 + ARGV[a + 4]
  local at, refused = append(KEYS[k], KEYS[k + 1], ARGV[3] .. k, ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV, a + 5, to, ARGV[to + 1])
  if not at and not refused then return redis.error_reply('TIMELINE is another one') end
  out[#out + 1] = at or '-' .. refused
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
