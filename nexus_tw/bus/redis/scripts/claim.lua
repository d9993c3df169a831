-- Claims and releases patterns for a node, in their order, or lets it forget all. KEYS: timeline, claims, claims of the node.
-- ARGV: timeline, prefix, node, how many patterns may be claimed; then of each step: text, and the policy, or '-' to release it.
-- `claims` has by the text of a pattern its policy and nodes, each after a space. Without steps the node's claims are given up, a
-- thousand in one call. Gives of each step '' or, if it is refused, the policy of the others, '-' where there is no room; of
-- a call without steps, how many may be left.
local claims, own, node, most = KEYS[2], KEYS[3], ARGV[3], tonumber(ARGV[4])
local word = ' ' .. node .. ' '
local out = {}

local function release(text)
  local there = call('HGET', claims, text)
  call('SREM', own, text)
  if not there then return end
  local from, to = string.find(there .. ' ', word, 1, true)
  if not from then return end
  local rest = string.sub(there, 1, from - 1) .. string.sub(there, to)
  if string.find(rest, ' ', 1, true) then call('HSET', claims, text, rest) else call('HDEL', claims, text) end
end

local function claim(text, policy)
  local there = call('HGET', claims, text)
  if not there then
    if call('HLEN', claims) >= most then return '-' end
    there = policy .. ' ' .. node
  else
    local old, nodes = string.match(there, '^(%S+) (.*)$')
    if nodes == node then
      there = policy .. ' ' .. node
    elseif old ~= policy or policy == 'single' then
      return old
    elseif string.find(there .. ' ', word, 1, true) then
      return ''
    else
      there = there .. ' ' .. node
    end
  end
  call('HSET', claims, text, there)
  call('SADD', own, text)
  return ''
end

if #ARGV == 4 then
  local texts = call('SRANDMEMBER', own, 1000)
  for _, text in ipairs(texts) do release(text) end
  return {call('SCARD', own)}
end
for at = 5, #ARGV, 2 do
  local text, policy = ARGV[at], ARGV[at + 1]
  if policy == '-' then
    release(text)
    out[#out + 1] = ''
  else
    out[#out + 1] = claim(text, policy)
  end
end
return out
