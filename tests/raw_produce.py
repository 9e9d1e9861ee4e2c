"""Records that no client library would write: a request of the Kafka protocol made by hand."""

import socket
import struct

_PRODUCE, _VERSION = 0, 3
_POLYNOMIAL = 0x82F63B78  # CRC-32C


def produce_raw(
    servers: str, topic: str, partition: int, key: bytes, value: bytes, headers: list[tuple[bytes, bytes]]
) -> int:
    """Write one record with headers whose names may be any bytes; its offset."""
    host, _, port = servers.rpartition(":")
    batch = _batch(_record(key, value, headers))
    name = topic.encode()
    body = struct.pack(">hhi", -1, -1, 20_000)  # no transaction, acks of all replicas, the timeout
    body += struct.pack(">ih", 1, len(name)) + name + struct.pack(">iii", 1, partition, len(batch)) + batch
    request = struct.pack(">hhih", _PRODUCE, _VERSION, 1, -1) + body
    with socket.create_connection((host, int(port)), 20) as connection, connection.makefile("rb") as answers:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", answers.read(4))
        answer = answers.read(size)
    error, offset = struct.unpack_from(">hq", answer, 4 + 4 + 2 + len(name) + 4 + 4)
    assert error == 0, f"the broker answers with error {error}"
    return int(offset)


def _record(key: bytes, value: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    fields = b"\0" + _varint(0) + _varint(0) + _text(key) + _text(value) + _varint(len(headers))
    fields += b"".join(_text(part) for header in headers for part in header)
    return _varint(len(fields)) + fields


def _batch(record: bytes) -> bytes:
    times = struct.pack(">qq", 1_700_000_000_000, 1_700_000_000_000)
    checked = struct.pack(">hi", 0, 0) + times + struct.pack(">qhii", -1, -1, -1, 1) + record
    rest = struct.pack(">ib", -1, 2) + struct.pack(">I", _crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(rest)) + rest


def _text(value: bytes) -> bytes:
    return _varint(len(value)) + value


def _varint(number: int) -> bytes:
    left, found = number << 1, bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes([*found, left])


def _crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
