//! A record of the ledger, as docs/WIRE.md says: its partition and its value.

use serde_json::Value;

use crate::avro;

/// Avro's single-object marker, and the fingerprint of version 1 of the writer schema.
const PREFIX: [u8; 10] = [0xC3, 0x01, 0x4b, 0x33, 0xb6, 0xf4, 0x21, 0x15, 0xc0, 0x92];

/// The value of an event's record, of its JSON form.
pub fn value(schema: &Value, event: &Value) -> Result<Vec<u8>, String> {
    let event_type = event["event_type"]
        .as_str()
        .ok_or("an event has an event_type")?;
    let mut out = PREFIX.to_vec();
    avro::encode(schema, event, event_type, &mut out)?;
    Ok(out)
}

/// The partition of a tenant.
pub fn partition(tenant_id: &str, partitions: u32) -> u32 {
    (murmur2(tenant_id.as_bytes()) & 0x7fff_ffff) % partitions
}

fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let chunks = key.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}
