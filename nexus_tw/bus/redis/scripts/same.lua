-- Nothing is told under another timeline than the one that the link has opened.
if call('GET', KEYS[1]) ~= timeline then return redis.error_reply('TIMELINE is another one') end
