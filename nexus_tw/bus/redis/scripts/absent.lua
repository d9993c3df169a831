-- KEYS: timeline. ARGV: timeline, prefix, first, most. Gives offline agents, each with the ms since when, who left last first.
return call('ZREVRANGE', prefix .. 'agents:absent', ARGV[3], ARGV[3] + ARGV[4] - 1, 'WITHSCORES')
