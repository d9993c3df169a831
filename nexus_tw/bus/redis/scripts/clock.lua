local now
do
  local t = call('TIME')
  now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
end
