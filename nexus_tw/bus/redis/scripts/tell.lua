-- Publishes the events that a script has gathered, all of the type whose hash and list are these.
-- ARGV[3] to ARGV[6]: birth, about channel, event channel, bounds (see publish.lua; '' without history).
-- Gives what Redis refused to publish them for, or ''.
local function tell(key, list, events)
  local refused
  if ARGV[6] ~= '' then
    -- `unpack` takes less than 8,000.
    for from = 1, #events, 1000 do
      local to, size = math.min(from + 999, #events), 0
      for i = from, to do size = size + #events[i] end
      local _, why = append(key, list, ARGV[3], ARGV[4], ARGV[5], ARGV[6], size, events, from, to, '')
      refused = refused or why
    end
  else
    for _, event in ipairs(events) do
      local sent = try('PUBLISH', ARGV[5], event)
      if type(sent) ~= 'number' then refused = sent.err end
    end
  end
  return refused or ''
end

