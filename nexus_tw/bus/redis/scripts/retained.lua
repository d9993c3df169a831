-- The retained events of types. KEYS: timeline; then a key for each. ARGV: timeline, prefix, bytes that are enough for one answer
-- Gives each as "POSITION LENGTH", a line feed, metadata of that length and data; '' without one. What is not there is to be
-- asked anew.
local out, spent = {}, 0
for k = 2, #KEYS do
  local event = call('GET', KEYS[k]) or ''
  spent = spent + #event
  if spent > ARGV[3] + 0 and k > 2 then break end
  out[#out + 1] = event
end
return out
