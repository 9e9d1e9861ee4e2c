-- Store the lists of a requester as Postgres had them at label ARGV[1], but only if the lane's label KEYS[1] is still the same.
-- KEYS[2..] are the lists, ARGV[2] their time to live in seconds; then come, for each list, how many members it has, and these.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
local at = 3
for i = 2, #KEYS do
    redis.call('DEL', KEYS[i])
    for j = at + 1, at + ARGV[at] do
        redis.call('ZADD', KEYS[i], 0, ARGV[j])
    end
    redis.call('EXPIRE', KEYS[i], ARGV[2])
    at = at + ARGV[at] + 1
end
return 1
