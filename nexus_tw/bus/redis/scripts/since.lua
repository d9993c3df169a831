-- Whether events up to offset `so` of the timeline `stl` and the birth `sb` are the first ones of a type's history.
local function follows(h, stl, sb, so)
  local was, birth, s, past = h[1], h[2], tonumber(h[3]), h[4] or ''
  if sb ~= birth then
    -- Somebody who has known this timeline, and no event of the type: there must have been none.
    return so == 0 and stl == was and past == '' and h[5] ~= '1'
  end
  if stl == was then return so <= s end
  for name, last in string.gmatch(past, '([^,:]+):(%d+),') do
    if name == stl then return so <= last + 0 end
  end
  return false
end
