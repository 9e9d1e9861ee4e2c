-- The lane's label KEYS[1] and the records of list ARGV[1] under its nonce; a list that is not there has no sentinel.
-- A replica before Redis 7 shows a script what has expired until its master says so, which one that is gone never does.
local label = redis.call('GET', KEYS[1])
if not label or redis.call('PTTL', KEYS[1]) == 0 then
    return {false, {}}
end
local nonce = string.match(label, '^(.-):')
return {label, redis.call('HVALS', string.sub(KEYS[1], 1, -3) .. nonce .. ':' .. ARGV[1])}
