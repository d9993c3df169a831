-- Publishes the events that a script has gathered, all of the type whose hash and list are these, of `size` bytes in all.
-- ARGV[3] to ARGV[6]: birth, about channel, event channel, bounds (see publish.lua; '' without history).
-- Gives what Redis refused to publish them for, or ''.
local function tell(key, list, events, size)
  local refused
  if #events > 0 and ARGV[6] ~= '' then
    local _, why = append(key, list, ARGV[3], ARGV[4], ARGV[5], ARGV[6], size, events, 1, #events, '')
    refused = why
  else
    for _, event in ipairs(events) do
      local sent = try('PUBLISH', ARGV[5], event)
      if type(sent) ~= 'number' then refused = sent.err end
    end
  end
  return refused or ''
end

