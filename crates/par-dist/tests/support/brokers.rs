//! What benches measure on: a file, and the servers that are installed.

#[path = "rabbit.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod rabbit;
#[path = "redis.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod redis;

/// Measures on each whose name has what the command line says besides options, if it says something; with the address where it is a server.
pub(crate) fn on_each(measure: impl Fn(Option<&str>)) {
    let redis = redis::Redis::start();
    let rabbit = rabbit::Rabbit::start();
    let mut places = vec![("a file", None)];
    match &redis {
        Ok(redis) => places.push(("Redis", Some(redis.url()))),
        Err(error) => println!("not on Redis: {error}"),
    }
    match &rabbit {
        Ok(rabbit) => places.push(("RabbitMQ", Some(rabbit.url()))),
        Err(error) => println!("not on RabbitMQ: {error}"),
    }
    let only = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    places.retain(|(name, _)| only.as_ref().is_none_or(|only| name.contains(only.as_str())));
    for (name, server) in places {
        println!("on {name}:");
        measure(server.as_deref());
    }
}
