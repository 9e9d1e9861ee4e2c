-- Move the lists of a lane from position ARGV[1] to ARGV[2], or drop all of them by using the new nonce ARGV[3].
-- KEYS[1] is the label, "nonce:position"; ARGV[6..] are triples: a list, the key of an entry that leaves it, an entry that is added to
-- it ('' for none). A list of more than ARGV[4] entries is cut to its first ARGV[5], with a marker that says so (entries.py).
-- A label expires after 15 s, and the worker renews it once a second. So if Redis refuses writes, because it is full or a replica,
-- readers soon get a miss instead of an old list.
-- A nonce begins with the lane's epoch: lists from before a repair are not used any more, even if the repair was interrupted.
local function change(list, leaves, added)
    if redis.call('EXISTS', list) == 0 then
        return
    end
    if leaves ~= '' then
        redis.call('ZREMRANGEBYLEX', list, '[' .. leaves .. '\0', '(' .. leaves .. '\1')
    end
    if added == '' then
        return
    end
    redis.call('ZADD', list, 0, added)
    if redis.call('ZRANGE', list, -1, -1)[1] == added then
        -- behind the marker, where others are missing
        redis.call('ZREM', list, added)
    elseif redis.call('ZCARD', list) > ARGV[4] + 1 then
        local last = redis.call('ZRANGE', list, ARGV[5] - 1, ARGV[5] - 1)[1]
        redis.call('ZREMRANGEBYRANK', list, ARGV[5], -1)
        redis.call('ZADD', list, 0, string.match(last, '^[^%z]*') .. '\1')
    end
end

local label = redis.call('GET', KEYS[1])
if label then
    local nonce, position = string.match(label, '^(.-):(%d+)$')
    local repaired = string.match(nonce or '', '^(%d+)%.') ~= string.match(ARGV[3], '^(%d+)%.')
    if position == ARGV[1] and not repaired then
        local prefix = string.sub(KEYS[1], 1, -3) .. nonce .. ':'
        for i = 6, #ARGV, 3 do
            change(prefix .. ARGV[i], ARGV[i + 1], ARGV[i + 2])
        end
        redis.call('SET', KEYS[1], nonce .. ':' .. ARGV[2], 'EX', 15)
        return 'moved'
    end
    if position and not repaired and tonumber(position) >= tonumber(ARGV[2]) then
        return 'ahead'
    end
end
redis.call('SET', KEYS[1], ARGV[3] .. ':' .. ARGV[2], 'EX', 15)
return 'renewed'
