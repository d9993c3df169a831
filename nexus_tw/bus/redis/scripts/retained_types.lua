-- The types with a retained event, those that expire first at the front; the event itself may have expired.
-- KEYS: timeline, index. ARGV: timeline, prefix
return call('ZRANGE', KEYS[2], 0, -1)
