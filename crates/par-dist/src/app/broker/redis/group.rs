//! What several threads want done by a Redis server while another waits for its answer, it is asked together, the next time: so they wait for its disk
//! and for the way there once.

use super::{Redis, Result};
use ::redis::{
    Connection, ErrorKind, Pipeline, RedisError, RedisResult, ScriptInvocation, ServerErrorKind, pipe,
};
use std::sync::mpsc::{self, Sender};

/// Those that wait for the next time.
pub(super) type Line = Vec<(Pipeline, Sender<RedisResult<i64>>)>;

impl Redis {
    /// Runs a script that changes something, together with what others want.
    pub(super) fn step(&self, script: &ScriptInvocation<'_>) -> Result<i64> {
        let mut one = pipe();
        one.invoke_script(script);
        self.again(|| self.step_once(&one))
    }

    fn step_once(&self, one: &Pipeline) -> RedisResult<i64> {
        let (tell, told) = mpsc::channel();
        self.line.lock().push((one.clone(), tell));
        // Whoever gets the connection next asks for all that wait; the others find that it is done.
        let mut slot = self.connection.lock();
        let line = std::mem::take(&mut *self.line.lock());
        if !line.is_empty() {
            let answers = self.on(&mut slot, |connection| ask(connection, &line));
            for (at, (_, tell)) in line.into_iter().enumerate() {
                let answer = match &answers {
                    Ok(answers) => answers.get(at).cloned(),
                    Err(error) => Some(Err(error.clone())),
                };
                // Who waits for it does so below.
                let _ = answer.map(|answer| tell.send(answer));
            }
        }
        drop(slot);
        let lost = |_| RedisError::from((ErrorKind::UnexpectedReturnType, "an answer is missing"));
        let answer = told.recv().map_err(lost)?;
        match &answer {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                // Somebody told the server to forget it.
                let whole = self.try_once(|connection| {
                    self.scripts.load(connection)?;
                    one.query::<Vec<i64>>(connection)
                });
                Ok(whole?.first().copied().unwrap_or_default())
            }
            _ => answer,
        }
    }
}

/// Each has an answer of its own.
fn ask(connection: &mut Connection, line: &Line) -> RedisResult<Vec<RedisResult<i64>>> {
    let mut all = pipe();
    for (one, _) in line {
        for command in one.cmd_iter() {
            all.add_command(command.clone());
        }
    }
    all.ignore_errors().query(connection)
}
