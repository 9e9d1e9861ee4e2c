//! Avro's binary encoding of a JSON value, driven by the writer schema; as much of Avro as the ledger's schema uses.

use serde_json::Value;

/// Append the encoding of `value` to `out`. `branch` names the record to take where a union has several.
pub fn encode(
    schema: &Value,
    value: &Value,
    branch: &str,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if let Some(union) = schema.as_array() {
        let chosen = union.iter().position(|each| fits(each, value, branch));
        let number = chosen.ok_or_else(|| format!("no branch of {schema} fits {value}"))?;
        long(number as i64, out);
        return encode(&union[number], value, branch, out);
    }
    match kind(schema) {
        "null" => {}
        "boolean" => out.push(u8::from(value.as_bool().ok_or("a boolean was expected")?)),
        "int" | "long" => long(
            value
                .as_i64()
                .ok_or_else(|| format!("{value} is no 64-bit number"))?,
            out,
        ),
        "string" => text(value.as_str().ok_or("a text was expected")?, out),
        "fixed" => {
            let digits = value
                .as_str()
                .ok_or("a correlation_id is a text of digits")?;
            let number: u128 = digits
                .parse()
                .map_err(|_| format!("{digits} has no 128 bits"))?;
            out.extend_from_slice(&number.to_be_bytes());
        }
        "enum" => {
            let symbols = schema["symbols"].as_array().ok_or("an enum has symbols")?;
            let number = symbols.iter().position(|symbol| symbol == value);
            long(
                number.ok_or_else(|| format!("{value} is no symbol"))? as i64,
                out,
            );
        }
        "array" => {
            let items = value.as_array().ok_or("a list was expected")?;
            block(items.len(), out, |out| {
                items
                    .iter()
                    .try_for_each(|item| encode(&schema["items"], item, branch, out))
            })?;
        }
        "map" => {
            let entries = value.as_object().ok_or("a map was expected")?;
            block(entries.len(), out, |out| {
                entries.iter().try_for_each(|(key, item)| {
                    text(key, out);
                    encode(&schema["values"], item, branch, out)
                })
            })?;
        }
        "record" => {
            for field in schema["fields"].as_array().ok_or("a record has fields")? {
                let name = field["name"].as_str().ok_or("a field has a name")?;
                encode(&field["type"], &value[name], branch, out)
                    .map_err(|error| format!("{name}: {error}"))?;
            }
        }
        other => {
            return Err(format!(
                "the schema uses {other}, which this program does not know"
            ))
        }
    }
    Ok(())
}

fn kind(schema: &Value) -> &str {
    schema
        .as_str()
        .or_else(|| schema["type"].as_str())
        .unwrap_or("")
}

fn fits(schema: &Value, value: &Value, branch: &str) -> bool {
    match value {
        Value::Null => kind(schema) == "null",
        Value::Bool(_) => kind(schema) == "boolean",
        Value::Number(_) => kind(schema) == "long",
        Value::String(_) => matches!(kind(schema), "string" | "enum"),
        Value::Array(_) => kind(schema) == "array",
        Value::Object(_) => kind(schema) == "map" || schema["name"] == branch,
    }
}

/// A number in zigzag form, seven bits a byte.
fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn text(text: &str, out: &mut Vec<u8>) {
    long(text.len() as i64, out);
    out.extend_from_slice(text.as_bytes());
}

/// The entries of an array or a map: one block, if there are any, and the empty block that ends them.
fn block(
    count: usize,
    out: &mut Vec<u8>,
    entries: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    if count > 0 {
        long(count as i64, out);
        entries(out)?;
    }
    long(0, out);
    Ok(())
}
