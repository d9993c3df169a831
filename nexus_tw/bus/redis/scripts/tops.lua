-- Where types are now. KEYS: timeline, hashes. ARGV: timeline, prefix, birth for types that are new, or '' to leave them out.
-- Gives epoch and offset of each; two empty texts for one that is left out. Where Redis has no memory for a new type, its
-- epoch is one that no event will have.
local out = {}
for k = 2, #KEYS do
  local h = call('HMGET', KEYS[k], 't', 'b', 's')
  if h[1] then
    out[#out + 1] = h[1] .. '.' .. h[2]
    out[#out + 1] = h[3]
  elseif ARGV[3] == '' then
    out[#out + 1] = ''
    out[#out + 1] = ''
  else
    local taken = try('HSET', KEYS[k], 't', timeline)
    if type(taken) == 'number' then begin(KEYS[k], ARGV[3] .. k) end
    out[#out + 1] = timeline .. '.' .. (type(taken) == 'number' and ARGV[3] .. k or '-')
    out[#out + 1] = '0'
  end
end
return out
