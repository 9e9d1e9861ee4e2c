//! Appends events to the ledger without our code, or holds its encoding to the vectors.
//!
//!     append-without-our-code vectors SCHEMA VECTORS
//!     append-without-our-code append SCHEMA SERVERS TOPIC PARTITIONS < events.jsonl
//!
//! `append` prints partition, offset and value of each record, once the broker has acknowledged it.

mod avro;
mod wire;

use std::env;
use std::fmt::Write;
use std::fs;
use std::io;
use std::sync::mpsc::{channel, Sender};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message};
use serde_json::Value;

const DELIVERY: Duration = Duration::from_secs(30);

/// Passes on where each record is, or why it is not known to be anywhere.
struct Reports(Sender<Result<(i32, i64), String>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.to_string()),
        };
        let _ = self.0.send(report);
    }
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["vectors", schema, vectors] => hold_to_vectors(&json(schema)?, &json(vectors)?),
        ["append", schema, servers, topic, partitions] => {
            let partitions = partitions.parse().map_err(|_| "PARTITIONS is a number")?;
            append(&json(schema)?, servers, topic, partitions)
        }
        _ => Err("see the top of src/main.rs for the arguments".into()),
    }
}

fn json(path: &str) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))
}

fn hold_to_vectors(schema: &Value, vectors: &Value) -> Result<(), String> {
    let partitions = vectors["partitions"]
        .as_u64()
        .ok_or("the vectors have partitions")? as u32;
    for (tenant, expected) in vectors["tenants"]
        .as_object()
        .ok_or("the vectors have tenants")?
    {
        let found = wire::partition(tenant, partitions);
        if u64::from(found) != expected.as_u64().unwrap_or(u64::MAX) {
            return Err(format!(
                "the partition of {tenant} is {expected}, not {found}"
            ));
        }
    }
    let events = vectors["events"]
        .as_array()
        .ok_or("the vectors have events")?;
    for vector in events {
        let found = hex(&wire::value(schema, &vector["event"])?);
        if vector["value_hex"] != found.as_str() {
            return Err(format!(
                "{} has the value {}, not {found}",
                vector["event"], vector["value_hex"]
            ));
        }
    }
    println!("{} events", events.len());
    Ok(())
}

/// Append the events one after the other, so that they are in the ledger in this order.
fn append(schema: &Value, servers: &str, topic: &str, partitions: u32) -> Result<(), String> {
    let (sender, reports) = channel();
    let producer: BaseProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .create_with_context(Reports(sender))
        .map_err(|error| error.to_string())?;
    for line in io::stdin().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let event: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let value = wire::value(schema, &event)?;
        let tenant = event["tenant_id"]
            .as_str()
            .ok_or("an event has a tenant_id")?;
        let partition = wire::partition(tenant, partitions) as i32;
        let record = BaseRecord::to(topic)
            .key(tenant)
            .payload(&value)
            .partition(partition);
        producer
            .send(record)
            .map_err(|(error, _)| error.to_string())?;
        producer
            .flush(DELIVERY)
            .map_err(|error| error.to_string())?;
        let (partition, offset) = reports.recv().map_err(|error| error.to_string())??;
        println!("{partition} {offset} {}", hex(&value));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
