-- Store a requester's list as Postgres had it at label ARGV[1], but only if the lane's label KEYS[1] is still the same.
-- KEYS[2] is the list, ARGV[2] its time to live in seconds, ARGV[3..] pairs: work_order_id, record.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('DEL', KEYS[2])
for i = 3, #ARGV, 2 do
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
