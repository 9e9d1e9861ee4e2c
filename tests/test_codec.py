"""Identity, partitioning and the wire format, against vectors and against the library."""

import io
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_type_hints

import confluent_kafka
import fastavro
import pytest

from core_tables.schemas import events, ledger_event_v1
from core_tables.schemas.avro_schema import AUDIT_SCHEMA, LEDGER_SCHEMA, load_schema
from core_tables.schemas.decoder import BodyError
from core_tables.schemas.events import PAYLOAD_TYPES, LedgerEvent, SizedEvent
from core_tables.schemas.generate import decoder_source, modules
from core_tables.schemas.identity import MAX_LANES, event_id_at, lane_of, murmur2, offset_of, partition_of
from core_tables.schemas.json_form import event_from_json, event_to_json
from core_tables.schemas.reasons import ContractError, ReasonCode, UnknownSchemaError, Violation
from core_tables.schemas.text import WHITE_SPACE, is_blank
from core_tables.schemas.traceparent import well_formed
from core_tables.schemas.validation import PAYLOAD_BOUNDS
from core_tables.schemas.vocabulary import EVENT_TYPES, MAX_PAYLOAD_BYTES, EventType
from core_tables.schemas.wire import HEADER_BYTES, PREFIX, WRITER_FINGERPRINT, decode_event, encode_event, lane_schemas

from .book import Book
from .builders import make
from .golden.vectors import decided_vector, vectors

VECTORS = json.loads((files("core_tables.schemas") / "vectors" / "wire.v1.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"a", 2731586172), (b"acme", 3013318916), (b"tenant-1", 374640331), (b"foobar", 3504634814)],
)
def test_murmur2_is_that_of_the_contract(key: bytes, hashed: int) -> None:
    assert murmur2(key) == hashed


@pytest.mark.parametrize("length", range(20))
def test_partitions_are_those_of_librdkafkas_murmur2(length: int) -> None:
    key = bytes(range(200, 200 + length))
    if key:
        assert partition_of(key, 12) == confluent_kafka.murmur2(key, 12)


def test_ids_are_positions_and_rise_with_lane_and_offset() -> None:
    assert event_id_at(0, 0) == 1
    assert event_id_at(3, 5) == (3 << 42) | 6
    assert (lane_of(event_id_at(3, 5)), offset_of(event_id_at(3, 5))) == (3, 5)
    assert event_id_at(MAX_LANES - 1, 2**42 - 3) < 2**53
    assert event_id_at(1, 0) > event_id_at(0, 2**42 - 3)


def named(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector.get("name", ""))


@pytest.mark.parametrize("vector", VECTORS["events"], ids=lambda vector: vector["event"]["event_type"])
def test_the_vectors_hold(vector: dict[str, Any]) -> None:
    event = event_from_json(vector["event"])
    assert encode_event(event).hex() == vector["value_hex"]
    decoded = decode_event(bytes.fromhex(vector["value_hex"]))
    assert isinstance(decoded, SizedEvent)
    assert event_to_json(decoded.event) == vector["event"]
    assert event.tenant_id.encode().hex() == vector["key_hex"]
    assert partition_of(event.tenant_id.encode(), VECTORS["partitions"]) == vector["partition"]


@named(VECTORS["also_decoded"])
def test_bytes_that_another_program_may_write_are_decoded(vector: dict[str, Any]) -> None:
    decoded = decode_event(bytes.fromhex(vector["value_hex"]))
    assert isinstance(decoded, SizedEvent)
    assert event_to_json(decoded.event) == vector["event"]


def decide(book: Book, vector: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a vector's record, as the vectors have it."""
    key, value = (None if vector[name] is None else bytes.fromhex(vector[name]) for name in ("key_hex", "value_hex"))
    return decided_vector(vector["name"], book, key, value, vector["partition"])


@named(VECTORS["refused"])
def test_the_bytes_of_a_wrong_record_stand_beside_its_code(vector: dict[str, Any]) -> None:
    assert decide(Book(), vector) == vector
    assert vector["outcome"] == "REFUSED"
    assert vector["reason_code"] in get_args(ReasonCode)


def test_the_records_of_the_sequence_are_decided_as_the_vectors_say_one_after_the_other() -> None:
    book = Book()
    for vector in VECTORS["sequence"]:
        assert decide(book, vector) == vector
    outcomes = {vector["outcome"] for vector in VECTORS["sequence"]}
    assert outcomes == {"ACCEPTED", "REPLAYED", "REFUSED"}


@named([*VECTORS["refused"], *VECTORS["sequence"]])
def test_the_audit_vectors_are_what_the_library_reads(vector: dict[str, Any]) -> None:
    value = bytes.fromhex(vector["audit_value_hex"])
    assert value[2:HEADER_BYTES].hex() == VECTORS["audit_fingerprint_hex"]
    read: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), load_schema(AUDIT_SCHEMA), None)
    if read["correlation_id"] is not None:
        read["correlation_id"] = str(int.from_bytes(read["correlation_id"], "big"))
    assert read == vector["audit_event"]


def test_the_vectors_are_what_their_program_writes() -> None:
    assert json.loads(json.dumps(vectors())) == VECTORS


def test_white_space_is_that_of_the_vectors() -> None:
    def characters(name: str) -> list[str]:
        return [chr(int(point.removeprefix("U+"), 16)) for point in VECTORS[name]]

    assert all(is_blank(character) for character in characters("white_space"))
    assert not any(is_blank(character) for character in characters("not_white_space"))
    assert set(characters("white_space")) == set(WHITE_SPACE)


def test_the_vectors_cover_every_event_type_and_know_the_fingerprint() -> None:
    assert {vector["event"]["event_type"] for vector in VECTORS["events"]} == set(EVENT_TYPES)
    assert PREFIX[2:].hex() == VECTORS["fingerprint_hex"]
    for tenant, partition in VECTORS["tenants"].items():
        assert partition_of(tenant.encode(), VECTORS["partitions"]) == partition


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_our_decoder_reads_what_the_library_reads(event_type: EventType) -> None:
    value = encode_event(make(event_type))
    read: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), load_schema(LEDGER_SCHEMA), None)
    payload = PAYLOAD_TYPES[event_type](**read.pop("payload"))
    read["correlation_id"] = int.from_bytes(read["correlation_id"], "big")
    decoded = decode_event(value)
    assert isinstance(decoded, SizedEvent)
    assert decoded.event == LedgerEvent(**read, payload=payload)


def test_the_schema_and_the_types_name_the_same_fields() -> None:
    schema = load_schema(LEDGER_SCHEMA)
    assert tuple(field["name"] for field in schema["fields"]) == LedgerEvent.__struct_fields__
    for branch in schema["fields"][-1]["type"][1:]:
        assert tuple(field["name"] for field in branch["fields"]) == PAYLOAD_TYPES[branch["name"]].__struct_fields__


def test_every_number_of_a_payload_has_bounds() -> None:
    """A field's value is bounded by its Avro type alone."""
    numbers = {
        name
        for kind in PAYLOAD_TYPES.values()
        for name, hint in get_type_hints(kind).items()
        if name in kind.__struct_fields__ and int in (hint, *get_args(hint)) and name != "value"
    }
    assert numbers == set(PAYLOAD_BOUNDS)


def test_the_sentence_about_a_field_of_an_unknown_type_names_the_map() -> None:
    value = encode_event(make("WORK_ORDER_CREATED")).replace(b"\x08city\x00", b"\x08city\x0e")
    refused = decode_event(value)
    assert isinstance(refused, Violation)
    what = "the union branch of an item of fields has number 7, which is not in the schema"
    assert refused.sentence == f"the body cannot be decoded: {what}"


def test_an_unknown_field_is_a_null_that_must_be_said() -> None:
    event = make("FIELD_SET", payload=events.FieldSet("city", None))
    form = event_to_json(event)
    assert form["payload"] == {"field_key": "city", "value": None}
    assert event_from_json(form) == event
    del form["payload"]["value"]
    with pytest.raises(ContractError, match="value is required, null included") as refusal:
        event_from_json(form)
    assert refusal.value.field == "value"


def test_the_payloads_size_is_that_of_its_encoding() -> None:
    decoded = decode_event(encode_event(make("FIELD_SET", payload=events.FieldSet("key", "value"))))
    assert isinstance(decoded, SizedEvent)
    assert decoded.payload_bytes == 1 + 4 + 1 + 6 + 1, "branch, key, branch of the value, value, no prompt keys"


@pytest.mark.parametrize("file", sorted(modules()))
def test_generated_code_is_what_the_generator_writes(file: str) -> None:
    formatter = [str(Path(sys.executable).with_name("ruff")), "format", "--stdin-filename", f"schemas/{file}", "-"]
    root = Path(__file__).parents[1]
    done = subprocess.run(formatter, input=modules()[file], capture_output=True, text=True, cwd=root, check=True)
    assert (root / "schemas" / file).read_text("utf-8") == done.stdout, "run `make generate`"


def test_maps_and_arrays_may_come_in_several_blocks() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "m", "type": {"type": "map", "values": "long"}}]}
    scope = dict(vars(ledger_event_v1))
    exec(decoder_source(schema, "object", lambda _name, _fields: "f_m"), scope)  # noqa: S102 - what the generator wrote
    decode = scope["decode"]
    one_block = b"\x04\x02a\x02\x02b\x04\x00"
    two_blocks = b"\x01\x06\x02a\x02\x02\x02b\x04\x00"  # the first with a negative count and its size
    assert decode(one_block, 0)[0] == decode(two_blocks, 0)[0] == {"a": 1, "b": 2}
    with pytest.raises(BodyError, match="too many"):
        decode(b"\xfe\xff\xff\xff\x0f", 0)


def test_as_many_items_as_a_payload_holds_are_decoded() -> None:
    keys = ["k"] * 8_000
    decoded = decode_event(encode_event(make("FIELD_SET", payload=events.FieldSet("f", 1, keys))))
    assert isinstance(decoded, SizedEvent)
    assert decoded.payload_bytes < MAX_PAYLOAD_BYTES


def test_a_schema_that_is_not_registered_is_refused_and_a_registered_one_that_nobody_knows_raises() -> None:
    value = b"\xc3\x01" + bytes(8) + b"x"
    refused = decode_event(value)
    assert isinstance(refused, Violation)
    assert refused.field == "schema"
    assert "0000000000000000" in refused.sentence
    registered = lane_schemas({"00" * 8: 7})
    assert decode_event(value, 6, registered) == refused, "as if it had never been registered"
    with pytest.raises(UnknownSchemaError, match="0000000000000000"):
        decode_event(value, 7, registered)


def test_a_record_is_decoded_from_the_offset_on_at_which_its_schema_is_registered() -> None:
    value, registered = encode_event(make("FIELD_SET")), lane_schemas({WRITER_FINGERPRINT: 5})
    assert isinstance(decode_event(value, 5, registered), SizedEvent)
    refused = decode_event(value, 4, registered)
    assert isinstance(refused, Violation)
    assert refused.field == "schema"


@pytest.mark.parametrize(
    ("header", "passed_on"),
    [
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        (b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", True),
        (b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        (b"00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        (b"00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", False),
        (b"\x1b]0;owned\x07", False),
        (b"", False),
    ],
)
def test_a_traceparent_has_the_form_that_the_w3c_gives_it_or_is_dropped(header: bytes, passed_on: bool) -> None:
    assert well_formed(header) == (header if passed_on else None)
    assert well_formed(None) is None
