"""The contract as code: Avro files, event and record types, validation, codec, reason codes, identity and murmur2."""
