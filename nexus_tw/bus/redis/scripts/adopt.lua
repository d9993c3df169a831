-- Gives events of another program their place in the history, once, whichever nodes ask for it. Their names are a mark that
-- all nodes have seen and how many came since: the same on each of them, as all of a Redis see one order.
-- KEYS: timeline, hash, list, how many after this mark have a place
-- ARGV: timeline, prefix, birth for a new type, about channel, bounds (see publish.lua), number of the first event, events
local key, list, first = KEYS[2], KEYS[3], tonumber(ARGV[6])
local had = tonumber(call('GET', KEYS[4]) or '0')
local from = 7 + math.max(0, had - first + 1)
if from > #ARGV then return 0 end
local h = call('HMGET', key, 't', 's', 'c', 'b')
local was, s, c, birth = h[1], tonumber(h[2] or '0'), tonumber(h[3] or '0'), h[4] or ARGV[3]
if was ~= timeline then enter(key, list, was, s, birth) end
local entries, size, n = {}, 0, #ARGV - from + 1
for i = from, #ARGV do
  entries[#entries + 1] = '\1' .. now .. ':0:' .. ARGV[i]
  size = size + #ARGV[i]
end
local length = call('RPUSH', list, unpack(entries))
for i = from, #ARGV do
  call('PUBLISH', ARGV[4], timeline .. '.' .. birth .. ':' .. (s + 1 + i - from) .. ' f\n' .. ARGV[i])
end
mark(key, list, ARGV[5], length, n, size, s + n, c + size)
call('SET', KEYS[4], first + #ARGV - 7, 'PX', 600000)
return n
