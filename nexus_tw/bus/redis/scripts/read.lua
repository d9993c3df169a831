-- What came after positions. KEYS: timeline; then for each: hash, list
-- ARGV: timeline, prefix, bytes that are enough for one answer; then for each: timeline, birth and offset of the position, count
-- Gives the time, then for each: epoch, offset, 1 for exactly these or 0, what was missed. What is not there is to be asked anew.
local out, spent, enough = {now}, 0, ARGV[3] + 0
local a = 4
for k = 2, #KEYS, 2 do
  local h = call('HMGET', KEYS[k], 't', 'b', 's', 'p', 'f', 'c', 'd')
  if not h[1] then
    out[#out + 1] = {timeline .. '.-', '0', 0, {}}
  else
    local so, s, got = tonumber(ARGV[a + 2]), tonumber(h[3]), {}
    local whole = follows(h, ARGV[a], ARGV[a + 1], so) and s - so <= ARGV[a + 3] + 0
    if whole and so < s then
      spent = spent + h[6] - h[7]
      if spent > enough and k > 2 then break end
      got = call('LRANGE', KEYS[k + 1], so - s, -1)
      whole = #got == s - so
      if not whole then got = {} end
    end
    out[#out + 1] = {h[1] .. '.' .. h[2], h[3], whole and 1 or 0, got}
  end
  a = a + 4
end
return out
