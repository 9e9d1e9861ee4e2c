-- Return the lane's label KEYS[1] and the records of list ARGV[1] under its nonce. A list that is not cached has no sentinel.
-- Before Redis 7, scripts on a replica see expired keys until the master deletes them, which a lost master never does.
local label = redis.call('GET', KEYS[1])
if not label or redis.call('PTTL', KEYS[1]) == 0 then
    return {false, {}}
end
local nonce = string.match(label, '^(.-):')
return {label, redis.call('HVALS', string.sub(KEYS[1], 1, -3) .. nonce .. ':' .. ARGV[1])}
