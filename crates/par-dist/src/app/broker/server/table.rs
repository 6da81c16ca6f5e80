//! Headers between JSON and AMQP's tables.

use lapin::types::{AMQPValue, FieldArray, FieldTable};
use serde_json::{Map, Number, Value};

pub(super) fn to_table(map: &Map<String, Value>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in map {
        table.insert(name.as_str().into(), to_amqp(value));
    }
    table
}

fn to_amqp(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(is) => AMQPValue::Boolean(*is),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AMQPValue::LongLongInt(number),
            None => AMQPValue::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(values) => {
            let mut array = FieldArray::default();
            values.iter().for_each(|value| array.push(to_amqp(value)));
            AMQPValue::FieldArray(array)
        }
        Value::Object(map) => AMQPValue::FieldTable(to_table(map)),
    }
}

pub(super) fn to_map(table: &FieldTable) -> Map<String, Value> {
    let entries = table.inner().iter();
    entries
        .map(|(name, value)| (name.to_string(), to_json(value)))
        .collect()
}

fn to_json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(is) => Value::Bool(*is),
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        AMQPValue::Timestamp(number) => (*number).into(),
        AMQPValue::Float(number) => float(f64::from(*number)),
        AMQPValue::Double(number) => float(*number),
        AMQPValue::DecimalValue(number) => {
            float(f64::from(number.value) / 10f64.powi(i32::from(number.scale)))
        }
        AMQPValue::ShortString(text) => text.to_string().into(),
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into(),
        AMQPValue::FieldArray(array) => array.as_slice().iter().map(to_json).collect(),
        AMQPValue::FieldTable(table) => Value::Object(to_map(table)),
        AMQPValue::Void => Value::Null,
    }
}

/// JSON has no NaN and no infinity.
fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_there_comes_back() {
        let map = serde_json::json!({
            "text": "grün", "none": null, "yes": true, "number": -7, "half": 0.5,
            "list": [1, [null, "x"], {}], "map": {"deep": {"er": [2.5]}},
        });
        let map = map.as_object().expect("a map");
        assert_eq!(&to_map(&to_table(map)), map);
        let big = serde_json::json!({ "big": u64::MAX });
        assert_eq!(
            to_map(&to_table(big.as_object().expect("a map")))["big"],
            serde_json::json!(u64::MAX as f64)
        );
    }
}
