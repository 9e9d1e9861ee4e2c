"""The local stack: Kafka, Postgres and Redis as processes of this machine."""
