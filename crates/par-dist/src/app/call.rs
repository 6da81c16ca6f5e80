//! [`Call`]: a task with its arguments and options, to be sent; and [`Signature`]s, to be sent by somebody else later.

use super::broker::Outgoing;
use super::context::{adopt, json};
use super::instance::App;
use super::message::{Message, Signature};
use super::time::{from_now, write_time};
use super::{AppError, AsyncResult, hooks};
use jiff::Timestamp;
use par_core::Task;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::marker::PhantomData;
use std::time::Duration;

/// A task with its arguments and options, to be sent; see [`App::call`].
#[must_use = "it is not sent until `send` is called"]
#[doc(alias = "apply_async")]
pub struct Call<T = Value> {
    app: App,
    task: Result<Outgoing, AppError>,
    _value: PhantomData<fn() -> T>,
}

/// The names of the headers by which calls with the same key, and copies of the same call, are told apart.
pub(super) const KEY: &str = "par_key";
pub(super) const COPY: &str = "par_copy";
/// Where ids that are made of keys come from.
const KEYS: uuid::Uuid = uuid::uuid!("6c1f7f2e-7c0f-4c53-9d0b-2f1d6a0b7a51");

/// A call that is ready to be sent, as a value: to be kept in a database, and sent by [`App::send_prepared`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared(pub(super) Outgoing);

impl Prepared {
    /// The id of the task.
    pub fn id(&self) -> &str {
        &self.0.message.headers.id
    }
}

/// The arguments of a call by position: what the task takes, as JSON.
pub(super) fn arguments<T: Task>(input: T::Input) -> Result<Vec<Value>, AppError> {
    let input = json(T::NAME, input)?;
    Ok(match (T::PARAMS.len(), input) {
        (0, _) => Vec::new(),
        (1, one) => vec![one],
        (_, Value::Array(many)) => many,
        (_, other) => vec![other],
    })
}

impl<T> Call<T> {
    pub(super) fn new(
        app: &App,
        name: &str,
        args: Result<Vec<Value>, AppError>,
        kwargs: Map<String, Value>,
    ) -> Self {
        let options = app.options(name);
        let task = args.map(|args| {
            let id = uuid::Uuid::new_v4().to_string();
            let mut message = Message::new(name, &id, args, kwargs);
            message.set_format(app.inner.config.format);
            message.properties.priority = options.priority;
            let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64());
            message.headers.timelimit = Some((seconds(options.hard_limit), seconds(options.soft_limit)));
            message.headers.ignore_result = Some(options.ignore_result);
            Outgoing {
                queue: app.queue_of(name, &options),
                message,
                at: None,
            }
        });
        Call {
            app: app.clone(),
            task,
            _value: PhantomData,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Outgoing)) -> Self {
        if let Ok(task) = &mut self.task {
            change(task);
        }
        self
    }

    /// Not before that time from now.
    pub fn countdown(self, time: Duration) -> Self {
        self.eta(from_now(time))
    }

    /// Not before that time.
    pub fn eta(self, at: Timestamp) -> Self {
        self.with(|task| {
            task.message.headers.eta = Some(write_time(at));
            task.at = Some(at);
        })
    }

    /// Not after that time from now: then it is revoked.
    pub fn expires(self, time: Duration) -> Self {
        self.with(|task| task.message.headers.expires = Some(write_time(from_now(time))))
    }

    /// To that queue.
    pub fn queue(self, queue: &str) -> Self {
        self.with(|task| task.queue = queue.to_owned())
    }

    /// From 0 to 255; higher ones go first.
    pub fn priority(self, priority: u8) -> Self {
        self.with(|task| task.message.properties.priority = priority)
    }

    /// With that id.
    #[doc(alias = "task_id")]
    pub fn id(self, id: &str) -> Self {
        self.with(|task| {
            let message = &mut task.message;
            message.headers.id = id.to_owned();
            message.headers.root_id = Some(id.to_owned());
            message.properties.correlation_id = id.to_owned();
        })
    }

    /// With a header of the user's.
    pub fn header(self, name: &str, value: Value) -> Self {
        self.with(|task| {
            task.message.headers.other.insert(name.to_owned(), value);
        })
    }

    /// How long it may run until it is told; see [`TaskOptions::soft_limit`](super::TaskOptions::soft_limit).
    #[doc(alias = "soft_time_limit")]
    pub fn soft_limit(self, limit: Duration) -> Self {
        self.with(|task| {
            let limits = task.message.headers.timelimit.get_or_insert((None, None));
            limits.1 = Some(limit.as_secs_f64());
        })
    }

    /// How long it may run until it has failed; see [`TaskOptions::hard_limit`](super::TaskOptions::hard_limit).
    #[doc(alias = "time_limit")]
    pub fn hard_limit(self, limit: Duration) -> Self {
        self.with(|task| {
            let limits = task.message.headers.timelimit.get_or_insert((None, None));
            limits.0 = Some(limit.as_secs_f64());
        })
    }

    /// Of all calls with that key, as long as results are kept, one runs, and each of them has its result: who is not sure whether a call was
    /// sent sends it again. The key makes the [id](Self::id).
    ///
    /// It needs results that are kept, in a file or on a Redis server, and shared by all workers.
    ///
    /// ```
    /// use par_dist::app::App;
    /// use par_dist::task;
    /// use std::time::Duration;
    ///
    /// #[task]
    /// fn price(cents: u32) -> u32 { cents }
    ///
    /// let app = App::builder("demo").broker("memory:").task::<price>().build()?;
    /// let first = app.call::<price>(100).idempotency_key("order 7").send()?;
    /// let again = app.call::<price>(200).idempotency_key("order 7").send()?;
    /// let _worker = app.worker().start()?;
    /// let wait = Duration::from_secs(60);
    /// assert_eq!(first.get(wait)?, again.get(wait)?); // whichever of both a worker began
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idempotency_key(self, key: &str) -> Self {
        let id = uuid::Uuid::new_v5(&KEYS, key.as_bytes()).to_string();
        let copy = uuid::Uuid::new_v4().to_string();
        let call = self.id(&id);
        call.header(COPY, copy.into()).header(KEY, key.into())
    }

    /// Nobody wants its value.
    pub fn ignore_result(self) -> Self {
        self.with(|task| task.message.headers.ignore_result = Some(true))
    }

    /// What is called with its value, besides what follows.
    pub fn link(self, signature: Signature) -> Self {
        self.with(|task| {
            task.message
                .body
                .embed
                .callbacks
                .get_or_insert_default()
                .push(signature)
        })
    }

    /// What is called with its id when it fails.
    pub fn link_error(self, signature: Signature) -> Self {
        self.with(|task| {
            task.message
                .body
                .embed
                .errbacks
                .get_or_insert_default()
                .push(signature)
        })
    }

    /// What follows with its value, after all that already does: a chain. The result is that of the last.
    #[doc(alias = "chain")]
    pub fn then<U>(self, mut signature: Signature) -> Call<U> {
        let id = uuid::Uuid::new_v4().to_string();
        signature.options.insert("task_id".to_owned(), id.into());
        // Whoever runs it may know nothing of who began.
        if let Some(reply_to) = self.app.results().reply_to() {
            signature.options.insert("reply_to".to_owned(), reply_to.into());
        }
        // The next one is the last.
        let call = self.with(|task| {
            task.message
                .body
                .embed
                .chain
                .get_or_insert_default()
                .insert(0, signature)
        });
        Call {
            app: call.app,
            task: call.task,
            _value: PhantomData,
        }
    }

    /// Sends it. When this returns it is on the disk, unless calls are [`unconfirmed`](super::AppBuilder::unconfirmed).
    ///
    /// # Errors
    /// The arguments are no JSON, or the broker cannot be used.
    pub fn send(self) -> Result<AsyncResult<T>, AppError> {
        let (mut task, app) = self.into_outgoing()?;
        adopt(&mut task);
        let headers = &task.message.headers;
        hooks::call("sends", || app.inner.hooks.sends(&headers.task, &headers.id));
        let last = task.message.body.embed.chain.iter().flatten().next();
        let last = last.and_then(|last| last.options.get("task_id")?.as_str());
        let id = last.unwrap_or(&task.message.headers.id).to_owned();
        app.publish(&[task])?;
        Ok(AsyncResult::new(id, &app))
    }

    /// As a value, to be sent later, by whatever program has an app on that broker. In the transaction of the user's own database in which it is
    /// called for, it is sent exactly if that is committed: see the example `outbox`.
    ///
    /// # Errors
    /// The arguments are no JSON, or an option is bad.
    pub fn prepare(self) -> Result<Prepared, AppError> {
        let (mut task, app) = self.into_outgoing()?;
        // Whoever sends it may not be there any more to hear of it.
        let reply_to = app.results().reply_to().map(str::to_owned);
        task.message.properties.reply_to = task.message.properties.reply_to.or(reply_to);
        Ok(Prepared(task))
    }

    pub(super) fn into_outgoing(self) -> Result<(Outgoing, App), AppError> {
        let task = self.task?;
        let checked = task.check();
        checked.map_err(|(option, reason)| AppError::Option { option, reason })?;
        let has_key = task.message.headers.other.contains_key(KEY);
        if has_key && self.app.results().reply_to().is_some() {
            return Err(AppError::Option {
                option: "idempotency_key",
                reason: "it needs results that are kept, in a file or on Redis, and those here go to who called (rpc://)".to_owned(),
            });
        }
        Ok((task, self.app))
    }
}

impl<T> std::fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

impl Signature {
    pub(super) fn of(task: &str, args: Vec<Value>, kwargs: Map<String, Value>) -> Self {
        Signature {
            task: task.to_owned(),
            args,
            kwargs,
            options: Map::new(),
            subtask_type: None,
            immutable: false,
            other: Map::new(),
        }
    }

    /// It does not take the value of what ran before it.
    #[must_use]
    #[doc(alias = "si")]
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// It goes to that queue.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        self.options.insert("queue".to_owned(), queue.into());
        self
    }

    /// The name of the task.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// As a call, with a value before its own arguments, unless it wants none.
    pub(super) fn call(&self, app: &App, value: Option<Value>) -> Call {
        let before = value.filter(|_| !self.immutable);
        let args = before.into_iter().chain(self.args.iter().cloned()).collect();
        let option = |name: &str| self.options.get(name);
        let mut call = Call::new(app, &self.task, Ok(args), self.kwargs.clone());
        if let Some(id) = option("task_id").and_then(Value::as_str) {
            call = call.id(id);
        }
        if let Some(reply_to) = option("reply_to").and_then(Value::as_str) {
            call = call.with(|task| task.message.properties.reply_to = Some(reply_to.to_owned()));
        }
        if let Some(queue) = option("queue").and_then(Value::as_str) {
            call = call.queue(queue);
        }
        if let Some(priority) = option("priority").and_then(Value::as_u64) {
            call = call.priority(u8::try_from(priority).unwrap_or(u8::MAX));
        }
        if let Some(seconds) = option("countdown").and_then(Value::as_f64) {
            call = call.countdown(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        }
        for (name, add) in [
            ("link", Call::link as fn(Call, Signature) -> Call),
            ("link_error", Call::link_error),
        ] {
            let linked = option(name).and_then(Value::as_array).into_iter().flatten();
            // What somebody else wrote there and is none is left out.
            for signature in linked.filter_map(|one| serde_json::from_value(one.clone()).ok()) {
                call = add(call, signature);
            }
        }
        call
    }
}
