"""Compiles an Avro record schema into one flat Python function that decodes its binary form.

A generic reader interprets the schema for every record and calls a function for every field; code generated once per
writer schema is about three times as fast, and stricter than the libraries: what it accepts is frozen with the
contract, so it must not depend on a library's leniency (negative lengths, symbols out of range, bytes left over).
Source: Avro specification 1.12, "Binary encoding".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Decode = Callable[[bytes, int], tuple[Any, int]]

MAX_ITEMS: Final = 4096  # of one array or map; more cannot fit into a record of 16 KiB that the contract accepts


class BodyError(ValueError):
    """The body is not a well-formed record of its schema; the sentence says where it breaks."""


def compile_decoder(schema: Mapping[str, Any], build: Callable[[str, Sequence[str]], tuple[str, Any]]) -> Decode:
    """Return `decode(buffer, start) -> (value, size in bytes of its last union)` for a record schema.

    `build(record name, field names)` gives the expression that makes the value from variables called `f_<field>`, and
    the object that the expression calls `make_<record name>`. Raises BodyError from the decoder on a malformed body.
    """
    writer = _Writer(build)
    writer.record(schema, "value")
    lines = [
        "def decode(b, p):",
        "    n = len(b)",
        "    u = p",
        "    try:",
        *("        " + line for line in writer.lines),
        "    except IndexError:",
        "        raise BodyError('the body ends before the record does') from None",
        "    except UnicodeDecodeError:",
        "        raise BodyError('a string of the body is not valid UTF-8') from None",
        "    if p != n:",
        "        raise BodyError(f'{n - p} bytes are left over after the record')",
        "    return value, p - u",
    ]
    scope: dict[str, Any] = {"BodyError": BodyError, "more": _more, "new": tuple.__new__, "bad": _bad, **writer.names}
    exec(compile("\n".join(lines), f"<decoder of {schema['name']}>", "exec"), scope)  # noqa: S102 - our own schema files
    decode: Decode = scope["decode"]
    return decode


def _more(b: bytes, p: int, low: int) -> tuple[int, int]:
    """The rest of a varint whose first byte had its continuation bit set: (unsigned value, next position)."""
    value = low & 0x7F
    shift = 7
    while True:
        byte = b[p]
        p += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise BodyError("a number of the body is longer than 64 bits")
    if value >= 1 << 64:
        raise BodyError("a number of the body is longer than 64 bits")
    return value, p


def _bad(what: str, index: int) -> BodyError:
    return BodyError(f"{what} number {(index >> 1) ^ -(index & 1)} is not in the schema")


class _Writer:
    """Writes the statements that read one type after the other from buffer `b` at position `p`."""

    def __init__(self, build: Callable[[str, Sequence[str]], tuple[str, Any]]) -> None:
        self.build = build
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self.indent = ""

    def put(self, *lines: str) -> None:
        self.lines.extend(self.indent + line for line in lines)

    def unsigned(self) -> None:
        """Read a varint into x, still zigzag-encoded."""
        self.put("x = b[p]", "p += 1", "if x > 127:", "    x, p = more(b, p, x)")

    def value(self, schema: Any, target: str) -> None:
        kind = schema["type"] if isinstance(schema, dict) else "union" if isinstance(schema, list) else schema
        {
            "int": self.integer,
            "long": self.long,
            "string": self.string,
            "boolean": self.boolean,
            "fixed": self.fixed,
            "enum": self.enum,
            "union": self.union,
            "array": self.array,
            "map": self.map,
            "record": self.record,
        }[kind](schema, target)

    def record(self, schema: Any, target: str) -> None:
        for field in schema["fields"]:
            if target == "value" and isinstance(field["type"], list):
                self.put("u = p")
            self.value(field["type"], f"f_{field['name']}")
        expression, maker = self.build(schema["name"], [field["name"] for field in schema["fields"]])
        self.names[f"make_{schema['name']}"] = maker
        self.put(f"{target} = {expression}")

    def long(self, _schema: Any, target: str) -> None:
        self.unsigned()
        self.put(f"{target} = (x >> 1) ^ -(x & 1)")

    def integer(self, schema: Any, target: str) -> None:
        self.long(schema, target)
        self.put("if x > 0xffffffff:", "    raise BodyError('an int of the body is longer than 32 bits')")

    def length(self) -> None:
        """Read a length, and set e to the end of what it covers."""
        self.unsigned()
        self.put("e = p + (x >> 1)", "if x & 1 or e > n:", "    raise IndexError")

    def string(self, _schema: Any, target: str) -> None:
        self.length()
        self.put(f"{target} = b[p:e].decode()", "p = e")

    def boolean(self, _schema: Any, target: str) -> None:
        self.put("x = b[p]", "p += 1", "if x > 1:", "    raise BodyError('a boolean of the body is neither 0 nor 1')")
        self.put(f"{target} = x == 1")

    def fixed(self, schema: Any, target: str) -> None:
        self.put(f"e = p + {schema['size']}", "if e > n:", "    raise IndexError")
        self.put(f"{target} = int.from_bytes(b[p:e], 'big')", "p = e")

    def enum(self, schema: Any, target: str) -> None:
        symbols = f"symbols_{schema['name']}"
        self.names[symbols] = tuple(schema["symbols"])
        self.unsigned()
        self.put(f"if x & 1 or x >= {2 * len(schema['symbols'])}:", f"    raise bad({schema['name']!r}, x)")
        self.put(f"{target} = {symbols}[x >> 1]")

    def union(self, schema: Any, target: str) -> None:
        self.unsigned()
        outer = self.indent
        for index, branch in enumerate(schema):
            self.put(f"{'el' if index else ''}if x == {2 * index}:")
            self.indent = outer + "    "
            if branch == "null":
                self.put(f"{target} = None")
            else:
                self.value(branch, target)
            self.indent = outer
        self.put("else:", f"    raise bad('union branch of {target[2:]}', x)")

    def blocks(self, target: str, empty: str, item: Callable[[], None]) -> None:
        """An array or map: blocks of items, each with a count; a negative count is followed by the block's size."""
        outer = self.indent
        self.put(f"{target} = {empty}", "while True:")
        self.indent = outer + "    "
        self.unsigned()
        self.put("if x == 0:", "    break", "c = (x >> 1) ^ -(x & 1)", "if c < 0:", "    c = -c")
        self.indent = outer + "        "
        self.unsigned()
        self.indent = outer + "    "
        self.put(f"if c + len({target}) > {MAX_ITEMS}:", f"    raise BodyError('{target[2:]} has too many items')")
        self.put("for _ in range(c):")
        self.indent = outer + "        "
        item()
        self.indent = outer

    def array(self, schema: Any, target: str) -> None:
        def item() -> None:
            self.value(schema["items"], "item")
            self.put(f"{target}.append(item)")

        self.blocks(target, "[]", item)

    def map(self, schema: Any, target: str) -> None:
        def item() -> None:
            self.string("string", "key")
            self.value(schema["values"], "item")
            self.put(f"{target}[key] = item")

        self.blocks(target, "{}", item)
