-- Move the lists of a lane from position ARGV[1] to ARGV[2], or drop all of them by using the new nonce ARGV[3].
-- KEYS[1] is the label, "nonce:position"; ARGV[4..] are triples: list, work_order_id, record ('' removes it).
-- A label expires after 15 s, and the worker renews it once a second. So if Redis refuses writes, because it is full or a replica,
-- readers soon get a miss instead of an old list.
-- A nonce begins with the lane's epoch: lists from before a repair are not used any more, even if the repair was interrupted.
local label = redis.call('GET', KEYS[1])
if label then
    local nonce, position = string.match(label, '^(.-):(%d+)$')
    local repaired = string.match(nonce or '', '^(%d+)%.') ~= string.match(ARGV[3], '^(%d+)%.')
    if position == ARGV[1] and not repaired then
        local prefix = string.sub(KEYS[1], 1, -3) .. nonce .. ':'
        for i = 4, #ARGV, 3 do
            local list = prefix .. ARGV[i]
            if redis.call('EXISTS', list) == 1 then
                if ARGV[i + 2] == '' then
                    redis.call('HDEL', list, ARGV[i + 1])
                else
                    redis.call('HSET', list, ARGV[i + 1], ARGV[i + 2])
                end
                -- 256 records and the sentinel. Sorting a longer list takes longer than asking Postgres.
                if redis.call('HLEN', list) > 257 then
                    redis.call('DEL', list)
                end
            end
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
