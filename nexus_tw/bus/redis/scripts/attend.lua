-- Steps of attendance: the same rules as in `nexus_tw/model/attendance.py`.
-- KEYS: timeline, hash and list of `agent.status`.
-- ARGV: timeline, prefix, birth, about channel, event channel, bounds (see publish.lua; '' without history), most offline agents,
--   ms to remember them; then for each step: verb, node, agent, a word, the data of the event
-- Gives the outcome of each step, and at the end what Redis refused to publish the events for, or ''.
--
-- `agents` has of each agent lines: status as told, ms since then, number, node and session of who has registered it, nodes.
-- `agents:at:NODE` are the agents of a node, `agents:absent` those that are offline, by the ms since when.
--
-- Redis looks whether it has memory at the first write only, so every step that takes some begins with HSET.
local agents, absent, buried = prefix .. 'agents', prefix .. 'agents:absent', prefix .. 'fleet:buried'
local out, events = {}, {}

local function find(agent)
  local text = call('HGET', agents, agent)
  if not text then return nil end
  local lines = {}
  for line in string.gmatch(text, '([^\n]*)\n') do lines[#lines + 1] = line end
  return lines
end
local function keep(agent, lines) call('HSET', agents, agent, table.concat(lines, '\n') .. '\n') end
local function place(lines, node)
  for i = 6, #lines do if lines[i] == node then return i end end
end
local function fresh() return {'', string.format('%.0f', now), '0', '', ''} end
local function say(lines, status, event)
  lines[1], lines[2] = status, string.format('%.0f', now)
  if event then events[#events + 1] = event end
end

for a = 9, #ARGV, 5 do
  local verb, node, agent, word, event = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
  local lines, outcome = find(agent), '='
  if (verb == 'come' or verb == 'hold') and call('ZSCORE', buried, node) then
    outcome = '!'
  elseif verb == 'come' then
    local was = lines and lines[1] or ''
    lines = lines or fresh()
    local new = not place(lines, node)
    if new then lines[#lines + 1] = node end
    if was ~= 'online' then
      if word == 'perhaps' and was == '' then
        outcome = '?'
      else
        -- If another node has told it as offline since, this node's knowledge is out of date.
        local known = word == 'known' and was == ''
        say(lines, 'online', not known and event)
        if not known then outcome = '+' end
      end
    end
    if new or was ~= lines[1] then keep(agent, lines) end
    if new then call('SADD', prefix .. 'agents:at:' .. node, agent) end
    if was == 'offline' and lines[1] == 'online' then call('ZREM', absent, agent) end
  elseif verb == 'go' then
    if not lines and word == 'known' then
      lines = fresh()
      lines[1] = 'online'
    end
    if lines then
      local i = place(lines, node)
      if i then table.remove(lines, i) end
      if #lines > 5 then
        if i then keep(agent, lines) end
      elseif lines[1] == '' then
        call('HDEL', agents, agent)
      elseif lines[1] == 'online' then
        say(lines, 'offline', event)
        lines[4], lines[5] = '', ''
        keep(agent, lines)
        call('ZADD', absent, now, agent)
        outcome = '+'
        local gone = call('ZRANGEBYSCORE', absent, '-inf', now - ARGV[8], 'LIMIT', 0, 8)
        if #gone == 0 and call('ZCARD', absent) > ARGV[7] + 0 then gone = call('ZRANGE', absent, 0, 7) end
        for _, old in ipairs(gone) do
          call('ZREM', absent, old)
          call('HDEL', agents, old)
        end
      end
      if i then call('SREM', prefix .. 'agents:at:' .. node, agent) end
    end
  elseif verb == 'hold' then
    local session, number, over = string.match(word, '^(%d+) (-?%d+) (-?%d+)$')
    lines = lines or fresh()
    local fixed = number == '0' and over ~= '-1' and over ~= lines[5] and node ~= lines[4]
    if number + 0 < 0 then number = string.format('%.0f', math.max(1, now + number)) end
    local former = lines[5] ~= '' and lines[5] ~= session
    if former and (fixed or (number + 0 > 0 and lines[3] + 0 > number + 0)) then
      outcome = lines[4] .. '\n' .. lines[5] .. '\n' .. lines[3]
    else
      if number + 0 == 0 then number = string.format('%.0f', math.max(now, lines[3] + 1)) end
      outcome = node .. '\n' .. session .. '\n' .. number
      if former then outcome = outcome .. '\n' .. lines[4] .. '\n' .. lines[5] .. '\n' .. lines[3] end
      lines[3], lines[4], lines[5] = number, node, session
      keep(agent, lines)
    end
  elseif lines and lines[5] == word then
    lines[4], lines[5] = '', ''
    keep(agent, lines)
  end
  out[#out + 1] = outcome
end

out[#out + 1] = tell(KEYS[2], KEYS[3], events)
return out
