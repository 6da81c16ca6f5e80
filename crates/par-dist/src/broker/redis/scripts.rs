//! What a Redis server does in one step, and the keys that it does it to.
//!
//! All keys begin with a name in braces, so that they are on one node of a cluster of servers. After it, with `:` between:
//! - `next`: the last number that was given, of peers, calls and messages. `epoch`: the run of the server in which all this is good.
//! - `peers`, `beats`: the card of each peer, and its heartbeats. `init` PEER: its initialiser. `peer` PEER: how far it has come (rule 3).
//! - `m` MESSAGE: a message. It is in `ready` QUEUE and `wait` POOL JOB (sorted by number) until it is leased, and then in `leased` PEER, with
//!   whether it was begun, and `held` POOL JOB, with who has it. `jobs` POOL: where to look.
//! - `replies` POOL: lines of number, kind, worker and microseconds, each followed by a body.
//! - `calls` POOL, `cancels`, `shares` and `shared` POOL: what their names say.

use ::redis::Script;

/// What several scripts do.
const PRELUDE: &str = r"
local P = KEYS[1] .. ':'
local function ring(to, why) redis.call('PUBLISH', P .. 'bell:' .. to, why) end
local function lives(peer) return redis.call('HEXISTS', P .. 'peers', peer) == 1 end
-- Where a message belongs.
local function of(id)
    local found = redis.call('HMGET', P .. 'm:' .. id, 'pool', 'job')
    return found[1], found[1] and (found[1] .. ':' .. found[2]), found[2]
end
-- Ends a leased message. Its pool, or nothing if the lease is not good.
local function finish(id, owner)
    if redis.call('HDEL', P .. 'leased:' .. owner, id) == 0 then return false end
    local pool, job, number = of(id)
    redis.call('DEL', P .. 'm:' .. id)
    if not pool then return false end
    redis.call('HDEL', P .. 'held:' .. job, id)
    if redis.call('EXISTS', P .. 'held:' .. job, P .. 'wait:' .. job) == 0 then
        redis.call('SREM', P .. 'jobs:' .. pool, number)
    end
    return pool
end
local function give_back(id, owner, queue)
    if redis.call('HDEL', P .. 'leased:' .. owner, id) == 0 then return end
    local pool, job = of(id)
    if not pool then return end
    redis.call('HDEL', P .. 'held:' .. job, id)
    redis.call('ZADD', P .. 'ready:' .. queue, id, id)
    redis.call('ZADD', P .. 'wait:' .. job, id, id)
end
";

/// Declares the scripts. What each takes besides the name of the keys is said before it.
macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        pub(super) struct Scripts { $($(#[$doc])* pub(super) $name: Script,)* }
        impl Scripts {
            pub(super) fn new() -> Self {
                Scripts { $($name: Script::new(&format!("{PRELUDE}{}", $text)),)* }
            }
        }
    };
}

scripts! {
    /// The run of the server, and whether what was written in another is all there. If not, it is dropped (rule 4).
    greet = r"
local run, whole = ARGV[1], ARGV[2]
local epoch = redis.call('GET', P .. 'epoch')
if epoch and epoch ~= run and whole ~= '1' then
    for _, key in ipairs(redis.call('KEYS', P:gsub('[%*%?%[%]%^\\]', '\\%0') .. '*')) do redis.call('UNLINK', key) end
end
redis.call('SET', P .. 'epoch', run)
";
    /// Card, initialiser. The number of the peer.
    join = r"
local me = redis.call('INCR', P .. 'next')
redis.call('HSET', P .. 'peers', me, ARGV[1])
redis.call('HSET', P .. 'beats', me, 0)
if ARGV[2] then redis.call('SET', P .. 'init:' .. me, ARGV[2]) end
ring('news', 'n')
return me
";
    /// Peer, number of the step, queue; then seven for each message. The number of the first; nothing if the peer was buried.
    publish = r"
local me, step, queue = ARGV[1], ARGV[2], ARGV[3]
if not lives(me) then return false end
local done = redis.call('HMGET', P .. 'peer:' .. me, 'step', 'answer')
if done[1] == step then return tonumber(done[2]) end
local count = (#ARGV - 3) / 7
local first = redis.call('INCRBY', P .. 'next', count) - count + 1
for number = 0, count - 1 do
    local at, id = 4 + number * 7, string.format('%.0f', first + number)
    local job = ARGV[at + 1]
    redis.call('HSET', P .. 'm:' .. id, 'pool', me, 'root', ARGV[at], 'job', job, 'call', ARGV[at + 2],
        'first', ARGV[at + 3], 'items', ARGV[at + 4], 'shares', ARGV[at + 5], 'payload', ARGV[at + 6])
    redis.call('ZADD', P .. 'ready:' .. queue, id, id)
    redis.call('ZADD', P .. 'wait:' .. me .. ':' .. job, id, id)
    redis.call('SADD', P .. 'jobs:' .. me, job)
end
redis.call('HSET', P .. 'peer:' .. me, 'step', step, 'answer', string.format('%.0f', first))
ring('work:' .. queue, 'w')
return first
";
    /// Peer, number of the step, queue, job, how many. Their numbers.
    withdraw = r"
local me, step, queue = ARGV[1], ARGV[2], ARGV[3]
local done = redis.call('HMGET', P .. 'peer:' .. me, 'step', 'answer')
if done[1] == step then return cmsgpack.unpack(done[2]) end
local job = me .. ':' .. ARGV[4]
local popped, taken = redis.call('ZPOPMIN', P .. 'wait:' .. job, ARGV[5]), {}
for at = 1, #popped, 2 do
    local id = popped[at]
    redis.call('ZREM', P .. 'ready:' .. queue, id)
    redis.call('DEL', P .. 'm:' .. id)
    taken[#taken + 1] = id
end
if redis.call('EXISTS', P .. 'held:' .. job, P .. 'wait:' .. job) == 0 then
    redis.call('SREM', P .. 'jobs:' .. me, ARGV[4])
end
redis.call('HSET', P .. 'peer:' .. me, 'step', step, 'answer', cmsgpack.pack(taken))
return taken
";
    /// Peer, queue, how many, about how many bytes. Nine for each message.
    lease = r"
local me, queue, most, bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local leased, size = {}, 0
if not lives(me) then return leased end
while most > 0 and size < bytes do
    local id = redis.call('ZPOPMIN', P .. 'ready:' .. queue)[1]
    if not id then break end
    local message = redis.call('HMGET', P .. 'm:' .. id, 'pool', 'root', 'job', 'call', 'first', 'items', 'shares', 'payload')
    if message[1] then
        local job = message[1] .. ':' .. message[3]
        redis.call('ZREM', P .. 'wait:' .. job, id)
        redis.call('HSET', P .. 'held:' .. job, id, me)
        redis.call('HSET', P .. 'leased:' .. me, id, '0')
        leased[#leased + 1] = id
        for _, field in ipairs(message) do leased[#leased + 1] = field end
        most, size = most - 1, size + #message[8]
    end
end
return leased
";
    /// Peer, message. Whether it may be run.
    begin = r"
local leased = P .. 'leased:' .. ARGV[1]
if redis.call('HEXISTS', leased, ARGV[2]) == 0 then return 0 end
redis.call('HSET', leased, ARGV[2], '1')
return 1
";
    /// Peer, queue, messages.
    release = r"
for at = 3, #ARGV do give_back(ARGV[at], ARGV[1], ARGV[2]) end
ring('work:' .. ARGV[2], 'w')
";
    /// Peer, queue, and all messages that it knows to have leased: what else it has goes back (rule 3).
    reconcile = r"
local known = {}
for at = 3, #ARGV do known[ARGV[at]] = true end
for _, id in ipairs(redis.call('HKEYS', P .. 'leased:' .. ARGV[1])) do
    if not known[id] then give_back(id, ARGV[1], ARGV[2]) end
end
";
    /// Peer, messages: they end without a reply.
    finish = r"
for at = 2, #ARGV do finish(ARGV[at], ARGV[1]) end
";
    /// Peer, then message and reply for each.
    settle = r"
local pools = {}
for at = 2, #ARGV, 2 do
    local pool = finish(ARGV[at], ARGV[1])
    -- Without the lease, or its pool, the reply has no reader.
    if pool and lives(pool) then
        redis.call('RPUSH', P .. 'replies:' .. pool, ARGV[at + 1])
        pools[pool] = true
    end
end
for pool in pairs(pools) do ring(pool, 'r') end
";
    /// Peer, how many replies it has read in all, about how many bytes. The next ones.
    collect = r"
local me, read, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local replies, peer = P .. 'replies:' .. me, P .. 'peer:' .. me
local gone = tonumber(redis.call('HGET', peer, 'collected') or 0)
if read > gone and lives(me) then
    redis.call('LTRIM', replies, read - gone, -1)
    redis.call('HSET', peer, 'collected', ARGV[2])
end
local out, size, from = {}, 0, 0
while size < bytes and from < 1024 do
    local some = redis.call('LRANGE', replies, from, from + 15)
    for _, reply in ipairs(some) do
        if size < bytes then
            out[#out + 1] = reply
            size = size + #reply
        end
    end
    if #some < 16 then break end
    from = from + 16
end
return out
";
    /// Peer, job. Who has messages of it, and whether they were begun.
    holders = r"
local held = redis.call('HGETALL', P .. 'held:' .. ARGV[1] .. ':' .. ARGV[2])
local holders = {}
for at = 1, #held, 2 do
    holders[#holders + 1] = held[at + 1]
    holders[#holders + 1] = redis.call('HGET', P .. 'leased:' .. held[at + 1], held[at]) or '0'
end
return holders
";
    /// Peer, job: it is cancelled.
    raise = r"
redis.call('SADD', P .. 'cancels', ARGV[1] .. ':' .. ARGV[2])
ring('news', 'n')
";
    /// Peer, call. Its number.
    store_call = r"
local id = redis.call('INCR', P .. 'next')
redis.call('HSET', P .. 'calls:' .. ARGV[1], id, ARGV[2])
return id
";
    /// Peer, key, value.
    share = r"
if redis.call('HSETNX', P .. 'shares', ARGV[2], ARGV[3]) == 1 then redis.call('SADD', P .. 'shared:' .. ARGV[1], ARGV[2]) end
";
    /// Peer, key.
    evict = r"
redis.call('HDEL', P .. 'shares', ARGV[2])
redis.call('SREM', P .. 'shared:' .. ARGV[1], ARGV[2])
ring('news', 'n')
";
    /// Peer. Whether it is one.
    beat = r"
if not lives(ARGV[1]) then return 0 end
redis.call('HINCRBY', P .. 'beats', ARGV[1], 1)
return 1
";
    /// Number, card and heartbeats of each peer.
    peers = r"
local cards, peers = redis.call('HGETALL', P .. 'peers'), {}
for at = 1, #cards, 2 do
    peers[#peers + 1] = cards[at]
    peers[#peers + 1] = cards[at + 1]
    peers[#peers + 1] = redis.call('HGET', P .. 'beats', cards[at]) or '0'
end
return peers
";
    /// Peer, reason, and the kinds of replies for what was not begun and what was.
    bury = r"
local peer, reason = ARGV[1], ARGV[2]
local card = redis.call('HGET', P .. 'peers', peer)
if not card then return 0 end
local queue = cjson.decode(card).queue
redis.call('HDEL', P .. 'peers', peer)
redis.call('HDEL', P .. 'beats', peer)
local leased, pools = redis.call('HGETALL', P .. 'leased:' .. peer), {}
for at = 1, #leased, 2 do
    local id, kind = leased[at], leased[at + 1] == '1' and ARGV[4] or ARGV[3]
    local pool = finish(id, peer)
    if pool and lives(pool) then
        redis.call('RPUSH', P .. 'replies:' .. pool, id .. ' ' .. kind .. ' ' .. peer .. ' 0\n' .. reason)
        pools[pool] = true
    end
end
for _, number in ipairs(redis.call('SMEMBERS', P .. 'jobs:' .. peer)) do
    local wait, held = P .. 'wait:' .. peer .. ':' .. number, P .. 'held:' .. peer .. ':' .. number
    for _, id in ipairs(redis.call('ZRANGE', wait, 0, -1)) do
        redis.call('ZREM', P .. 'ready:' .. queue, id)
        redis.call('DEL', P .. 'm:' .. id)
    end
    local holders = redis.call('HGETALL', held)
    for at = 1, #holders, 2 do
        redis.call('HDEL', P .. 'leased:' .. holders[at + 1], holders[at])
        redis.call('DEL', P .. 'm:' .. holders[at])
    end
    redis.call('DEL', wait, held)
end
for _, cancel in ipairs(redis.call('SMEMBERS', P .. 'cancels')) do
    if string.sub(cancel, 1, #peer + 1) == peer .. ':' then redis.call('SREM', P .. 'cancels', cancel) end
end
for _, key in ipairs(redis.call('SMEMBERS', P .. 'shared:' .. peer)) do redis.call('HDEL', P .. 'shares', key) end
for _, key in ipairs({'jobs:', 'calls:', 'replies:', 'init:', 'peer:', 'shared:', 'leased:'}) do redis.call('UNLINK', P .. key .. peer) end
for pool in pairs(pools) do ring(pool, 'r') end
ring('news', 'n')
return 1
";
}
