-- A part of the types that the index knows. KEYS: timeline, index. ARGV: timeline, prefix, cursor, glob, how many to look at
-- Gives the next cursor ('0' at the end), then name, epoch and offset of each that the glob matches.
local part = call('ZSCAN', KEYS[2], ARGV[3], 'MATCH', ARGV[4], 'COUNT', ARGV[5])
local out = {part[1]}
for i = 1, #part[2], 2 do
  local h = call('HMGET', prefix .. 'type:{' .. part[2][i] .. '}', 't', 'b', 's')
  if h[1] then
    out[#out + 1] = part[2][i]
    out[#out + 1] = h[1] .. '.' .. h[2]
    out[#out + 1] = h[3]
  end
end
return out
