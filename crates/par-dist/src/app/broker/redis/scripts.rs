//! What a Redis server does in one step.
//!
//! The keys of leased messages are kombu's: `unacked` has them by tag, `unacked_index` the tags by when they were leased or shown to be alive.

use ::redis::{Connection, RedisResult, Script, pipe};

pub(super) const UNACKED: &str = "unacked";
pub(super) const INDEX: &str = "unacked_index";

pub(super) struct Scripts {
    /// KEYS: unacked, index, then for each queue the set of what waits for its time and its four lists. ARGV: how many at most, what tags begin
    /// with, the last number, and then the name of each queue as JSON.
    pub(super) lease: Script,
    /// KEYS: unacked, index, that of an outcome or nothing, then one for each message. ARGV: a tag or nothing, the outcome, how long it is kept in
    /// milliseconds, then two for each message: when it is due or nothing, and the message.
    pub(super) put: Script,
    /// KEYS: unacked, index, and the list. ARGV: the tag, and the message.
    pub(super) give_back: Script,
    /// KEYS: unacked, index. ARGV: tags.
    pub(super) end: Script,
    /// KEYS: index. ARGV: tags.
    pub(super) alive: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            lease: Script::new(LEASE),
            put: Script::new(PUT),
            give_back: Script::new(GIVE_BACK),
            end: Script::new(END),
            alive: Script::new(ALIVE),
        }
    }

    /// Makes those known to the server that are called without a look whether they are.
    pub(super) fn load(&self, connection: &mut Connection) -> RedisResult<()> {
        let mut load = pipe();
        load.load_script(&self.put)
            .load_script(&self.end)
            .exec(connection)
    }
}

const LEASE: &str = r#"
local most, prefix, number = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now, millis = string.format('%d.%06d', time[1], time[2]), time[1] * 1000 + math.floor(time[2] / 1000)
local leased = {}
local queues = (#KEYS - 2) / 5
for queue = 0, queues - 1 do
    local first = 3 + queue * 5
    local due = redis.call('ZRANGEBYSCORE', KEYS[first], '-inf', millis, 'LIMIT', 0, 1000)
    for _, message in ipairs(due) do
        redis.call('ZREM', KEYS[first], message)
        -- Its list stands before it.
        local list = tonumber(string.sub(message, 1, 1))
        redis.call('LPUSH', KEYS[first + 1 + list], string.sub(message, 2))
    end
    for list = first + 1, first + 4 do
        while #leased < most * 3 do
            local message = redis.call('RPOP', KEYS[list])
            if not message then break end
            number = number + 1
            redis.call('HSET', KEYS[1], prefix .. number, '[' .. message .. ',"",' .. ARGV[4 + queue] .. ']')
            redis.call('ZADD', KEYS[2], now, prefix .. number)
            leased[#leased + 1] = number
            leased[#leased + 1] = queue
            leased[#leased + 1] = message
        end
    end
end
return leased
"#;

const PUT: &str = r"
if ARGV[1] ~= '' then
    if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
    redis.call('ZREM', KEYS[2], ARGV[1])
end
if KEYS[3] ~= '' then
    redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
    redis.call('PUBLISH', KEYS[3], ARGV[2])
end
for at = 4, #KEYS do
    local due, message = ARGV[2 * at - 4], ARGV[2 * at - 3]
    if due == '' then
        redis.call('LPUSH', KEYS[at], message)
    else
        redis.call('ZADD', KEYS[at], due, message)
    end
end
return 1
";

const GIVE_BACK: &str = r"
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[2])
return 1
";

const END: &str = r"
local ended = 0
for _, tag in ipairs(ARGV) do
    ended = ended + redis.call('HDEL', KEYS[1], tag)
    redis.call('ZREM', KEYS[2], tag)
end
return ended
";

const ALIVE: &str = r"
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
for _, tag in ipairs(ARGV) do
    redis.call('ZADD', KEYS[1], 'XX', now, tag)
end
return now
";
