-- Takes of every bucket, or of none; returns the microseconds until all of them have it, 0 if it was taken.
-- KEYS: the buckets. ARGV: for each how much is taken, then how much it holds, in microseconds of filling.
-- The clock is that of this server, one for all nodes. After it was set back a bucket is not emptier than empty.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_after, wait = {}, 0
for i, key in ipairs(KEYS) do
  local taken, holds = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local full_at = tonumber(redis.call('GET', key) or now)
  full_after[i] = math.min(math.max(full_at, now), now + holds) + taken
  wait = math.max(wait, full_after[i] - now - holds)
end
if wait > 0 then
  return wait
end
for i, key in ipairs(KEYS) do
  local lasts_ms = math.ceil((full_after[i] - now) / 1000)
  redis.call('SET', key, string.format('%.0f', full_after[i]), 'PX', string.format('%.0f', math.max(lasts_ms, 1)))
end
return 0
