//! Arguments that are JSON values, bound to the parameters of a task as Python binds them.
//!
//! 1. Values by position fill the parameters in order; then those by name. One that is given twice, or that no parameter takes, is an error.
//! 2. A parameter that is an `Option` may be left out.
//! 3. A last `Vec<Value>` takes what is left by position, and a last `Map<String, Value>` what is left by name; of both, that order.

use par_core::engine::Initializer;
use par_core::wire::WireError;
use par_core::{Task, TaskError, signature_of};
use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::cell::Cell;

/// Why arguments do not fit a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[doc(alias = "TypeError")]
pub enum ArgumentError {
    /// A parameter has no value.
    #[error("{task} misses the argument {parameter:?}")]
    Missing {
        /// The task.
        task: String,
        /// The parameter.
        parameter: String,
    },
    /// A parameter has two values.
    #[error("{task} got the argument {parameter:?} twice, by position and by name")]
    Twice {
        /// The task.
        task: String,
        /// The parameter.
        parameter: String,
    },
    /// There is no such parameter.
    #[error("{task} has no parameter {name:?}; it has {known}")]
    Unknown {
        /// The task.
        task: String,
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// There are more values than parameters.
    #[error("{task} takes {takes} arguments by position, got {got}")]
    TooMany {
        /// The task.
        task: String,
        /// How many it takes.
        takes: usize,
        /// How many there were.
        got: usize,
    },
    /// A value is of another type than its parameter.
    #[error("{task} cannot take the argument {parameter:?}: {reason}")]
    Type {
        /// The task.
        task: String,
        /// The parameter.
        parameter: String,
        /// What was wrong, and what is expected.
        reason: String,
    },
}

/// How a task is called with arguments that are JSON, whatever its types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Code {
    /// Here and now.
    pub(crate) call: fn(&[Value], &Map<String, Value>) -> Called,
    /// By a process that runs this very program: what is run there with [`outcome_of`].
    pub(crate) elsewhere: Elsewhere,
    /// As a future.
    #[cfg(feature = "async")]
    pub(crate) start: fn(&[Value], &Map<String, Value>) -> Future,
}

type Elsewhere = fn(&[Value], &Map<String, Value>) -> Result<Initializer, WireError>;

/// What comes of a call.
pub(crate) type Called = Result<Value, CallError>;

#[cfg(feature = "async")]
pub(crate) type Future = std::pin::Pin<Box<dyn std::future::Future<Output = Called> + Send>>;

/// Why a call has no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum CallError {
    /// What an [`ArgumentError`] says.
    #[error("{0}")]
    Arguments(String),
    #[error(transparent)]
    Task(TaskError),
}

impl From<ArgumentError> for CallError {
    fn from(error: ArgumentError) -> Self {
        CallError::Arguments(error.to_string())
    }
}

thread_local! {
    /// What came of the call that this thread runs for another process.
    static OUTCOME: Cell<Option<Called>> = const { Cell::new(None) };
}

impl Code {
    pub(crate) fn of<T: Task>() -> Self {
        Code {
            call: call::<T>,
            elsewhere: |args, kwargs| {
                let text = serde_json::to_string(&(args, kwargs)).unwrap_or_default();
                Initializer::of_fn(call_here::<T>, &text)
            },
            #[cfg(feature = "async")]
            start: |args, kwargs| {
                let input = bind::<T>(args, kwargs);
                Box::pin(async { value(T::call_async(input?).await) })
            },
        }
    }
}

fn call<T: Task>(args: &[Value], kwargs: &Map<String, Value>) -> Called {
    value(T::call(bind::<T>(args, kwargs)?))
}

fn value(output: Result<impl Serialize, TaskError>) -> Called {
    serde_json::to_value(output.map_err(CallError::Task)?)
        .map_err(|error| CallError::Task(TaskError::Codec(format!("the value is no JSON: {error}"))))
}

fn call_here<T: Task>(text: String) {
    let called = match serde_json::from_str::<(Vec<Value>, Map<String, Value>)>(&text) {
        Ok((args, kwargs)) => call::<T>(&args, &kwargs),
        Err(error) => Err(CallError::Task(TaskError::Codec(error.to_string()))),
    };
    OUTCOME.set(Some(called));
}

/// Runs what another process of this program wants to have called.
pub(crate) fn outcome_of(work: &Initializer) -> Called {
    let run = work.run().map_err(CallError::Task);
    let nothing = || CallError::Task(TaskError::Rejected("it is no call of a task".to_owned()));
    run.and_then(|()| OUTCOME.take().unwrap_or_else(|| Err(nothing())))
}

/// What a parameter takes besides a value of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    One,
    OneOrNone,
    RestByPosition,
    RestByName,
}

/// The types of the parameters, from the text of the signature: `(a: i64, rest: [any]) -> any`.
fn parameters(signature: &str, count: usize) -> Vec<Takes> {
    let mut types = Vec::new();
    let (mut depth, mut from) = (0usize, 1);
    for (at, letter) in signature.char_indices() {
        match letter {
            '(' | '[' | '{' | '<' => depth += 1,
            // The arrow comes after the last parenthesis.
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if (depth == 1 && letter == ',') || depth == 0 {
            types.push(&signature[from..at]);
            from = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    let takes = |at: usize, text: &str| {
        let kind = text.split_once(": ").map_or("", |(_, kind)| kind.trim());
        match kind {
            "[any]" if at + 1 == count || at + 2 == count => Takes::RestByPosition,
            "{string: any}" if at + 1 == count => Takes::RestByName,
            kind if kind.starts_with("Option<") => Takes::OneOrNone,
            _ => Takes::One,
        }
    };
    let mut takes: Vec<Takes> = types
        .iter()
        .take(count)
        .enumerate()
        .map(|(at, text)| takes(at, text))
        .collect();
    // The rest by position is the last, or before the rest by name.
    if count > 1
        && takes.get(count - 2) == Some(&Takes::RestByPosition)
        && takes.last() != Some(&Takes::RestByName)
    {
        takes[count - 2] = Takes::One;
    }
    takes
}

fn bind<T: Task>(args: &[Value], kwargs: &Map<String, Value>) -> Result<T::Input, ArgumentError> {
    let task = || T::NAME.to_owned();
    let takes = parameters(signature_of::<T>().text(), T::PARAMS.len());
    let mut left = args.iter();
    let mut named = kwargs.clone();
    let mut values = Vec::with_capacity(T::PARAMS.len());
    for (parameter, takes) in T::PARAMS.iter().zip(&takes) {
        let twice = || ArgumentError::Twice {
            task: task(),
            parameter: (*parameter).to_owned(),
        };
        values.push(match takes {
            Takes::RestByPosition => match named.remove(*parameter) {
                Some(given) if left.len() == 0 => given,
                Some(_) => return Err(twice()),
                None => Value::Array(left.by_ref().cloned().collect()),
            },
            Takes::RestByName if left.len() == 0 => Value::Object(std::mem::take(&mut named)),
            Takes::One | Takes::OneOrNone | Takes::RestByName => {
                match (left.next(), named.remove(*parameter)) {
                    (Some(_), Some(_)) => return Err(twice()),
                    (Some(value), None) => value.clone(),
                    (None, Some(value)) => value,
                    (None, None) if *takes == Takes::OneOrNone => Value::Null,
                    (None, None) => {
                        return Err(ArgumentError::Missing {
                            task: task(),
                            parameter: (*parameter).to_owned(),
                        });
                    }
                }
            }
        });
    }
    if left.len() > 0 {
        return Err(ArgumentError::TooMany {
            task: task(),
            takes: T::PARAMS.len(),
            got: args.len(),
        });
    }
    if let Some(name) = named.keys().next() {
        return Err(ArgumentError::Unknown {
            task: task(),
            name: name.clone(),
            known: known(T::PARAMS),
        });
    }
    read(values).map_err(|(at, reason)| ArgumentError::Type {
        task: task(),
        parameter: T::PARAMS
            .get(at)
            .map_or_else(String::new, |name| (*name).to_owned()),
        reason,
    })
}

fn known(parameters: &[&str]) -> String {
    if parameters.is_empty() {
        return "none".to_owned();
    }
    parameters.join(", ")
}

/// The input of a task: the unit, a value, or a tuple. The error names the value by its place.
fn read<I: DeserializeOwned>(mut values: Vec<Value>) -> Result<I, (usize, String)> {
    match values.len() {
        0 => serde_json::from_value(Value::Null).map_err(|error| (0, error.to_string())),
        1 => serde_json::from_value(values.remove(0)).map_err(|error| (0, error.to_string())),
        _ => {
            let at = Cell::new(0);
            let counted = values.into_iter().enumerate().map(|(place, value)| {
                at.set(place);
                value
            });
            let read: Result<I, serde_json::Error> = I::deserialize(SeqDeserializer::new(
                counted.map(IntoDeserializer::into_deserializer),
            ));
            read.map_err(|error| (at.get(), error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_core::task;
    use serde_json::json;

    #[task]
    fn area(width: u32, height: u32, unit: Option<String>) -> String {
        format!("{}{}", width * height, unit.unwrap_or_default())
    }

    #[task]
    fn gather(first: i64, rest: Vec<Value>, named: Map<String, Value>) -> Value {
        json!([first, rest, named])
    }

    #[task]
    fn tail(first: i64, rest: Vec<Value>) -> Value {
        json!([first, rest])
    }

    #[task]
    fn one(list: Vec<i64>) -> usize {
        list.len()
    }

    #[task]
    fn nothing() -> f64 {
        0.1
    }

    #[task]
    fn fails(text: String) -> Result<(), String> {
        Err(text)
    }

    fn with<T: Task>(args: Value, kwargs: Value) -> Result<Value, String> {
        let args = args.as_array().expect("a list").clone();
        let kwargs = kwargs.as_object().expect("a map").clone();
        call::<T>(&args, &kwargs).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_come_by_position_or_by_name() {
        assert_eq!(with::<area>(json!([2, 3]), json!({})), Ok(json!("6")));
        assert_eq!(
            with::<area>(json!([2]), json!({"height": 3, "unit": "m2"})),
            Ok(json!("6m2"))
        );
        assert_eq!(
            with::<area>(json!([]), json!({"height": 3, "width": 2})),
            Ok(json!("6"))
        );
        assert_eq!(with::<area>(json!([2, 3, null]), json!({})), Ok(json!("6")));
        assert_eq!(with::<nothing>(json!([]), json!({})), Ok(json!(0.1)));
        assert_eq!(with::<one>(json!([[1, 2]]), json!({})), Ok(json!(2)));
    }

    #[test]
    fn the_rest_goes_to_the_last() {
        let all = with::<gather>(json!([1, 2, "x"]), json!({"a": null}));
        assert_eq!(all, Ok(json!([1, [2, "x"], {"a": null}])));
        assert_eq!(
            with::<gather>(json!([]), json!({"first": 1})),
            Ok(json!([1, [], {}]))
        );
        assert_eq!(with::<tail>(json!([1, 2, 3]), json!({})), Ok(json!([1, [2, 3]])));
        assert_eq!(
            with::<tail>(json!([1]), json!({"rest": [7]})),
            Ok(json!([1, [7]]))
        );
    }

    #[test]
    fn what_does_not_fit_names_the_parameter() {
        let says = |result: Result<Value, String>, parts: &[&str]| {
            let text = result.expect_err("it does not fit");
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        };
        says(with::<area>(json!([2]), json!({})), &["misses", "\"height\""]);
        says(
            with::<area>(json!([2, 3]), json!({"width": 1})),
            &["\"width\"", "twice"],
        );
        says(
            with::<area>(json!([2, 3]), json!({"depth": 1})),
            &["\"depth\"", "width, height, unit"],
        );
        says(
            with::<area>(json!([1, 2, null, 4]), json!({})),
            &["takes 3", "got 4"],
        );
        says(
            with::<area>(json!([2, "x"]), json!({})),
            &["\"height\"", "expected u32"],
        );
        says(
            with::<area>(json!([-2, 1]), json!({})),
            &["\"width\"", "expected u32"],
        );
        says(
            with::<one>(json!([1]), json!({})),
            &["\"list\"", "expected a sequence"],
        );
        says(with::<one>(json!([]), json!({})), &["misses", "\"list\""]);
        says(with::<nothing>(json!([]), json!({"x": 1})), &["\"x\"", "none"]);
        says(
            with::<tail>(json!([1, 2]), json!({"rest": []})),
            &["\"rest\"", "twice"],
        );
        says(with::<fails>(json!(["oh"]), json!({})), &["task failed: oh"]);
    }
}
