"""TFRecord files of tf.train.Example messages: their framing with its sums, and byte strings by their features' names.

A record is its length (8 bytes, little-endian), a sum of these (4 bytes), the data, and a sum of them. The sums are
CRC-32C, turned right by 15 bits, plus 0xa282ead8. A SequenceExample's context is read as an Example: on the wire they
are the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from typing import IO, Any

_LENGTH, _SUM = struct.Struct("<Q"), struct.Struct("<I")
_MOST_BYTES = 1 << 30  # of a record: more is no record's length


def read_records(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the data of each record. Raise ValueError, with the byte that it begins at, for one that is cut short or
    whose sum is another.
    """
    position = 0
    while head := file.read(_LENGTH.size + _SUM.size):
        if len(head) < _LENGTH.size + _SUM.size:
            raise ValueError(f"the record at byte {position:,} is cut short")
        _check(head[: _LENGTH.size], head[_LENGTH.size :], f"of the length of the record at byte {position:,}")
        (length,) = _LENGTH.unpack_from(head)
        if length > _MOST_BYTES:
            raise ValueError(f"the record at byte {position:,} has {length:,} bytes, more than {_MOST_BYTES:,}")
        data, tail = file.read(length), file.read(_SUM.size)
        if len(data) < length or len(tail) < _SUM.size:
            raise ValueError(f"the record at byte {position:,} is cut short")
        _check(data, tail, f"of the record at byte {position:,}")
        yield data
        position += len(head) + length + len(tail)


def byte_features(record: bytes, names: Sequence[str]) -> list[bytes]:
    """Return the one byte string of each of these features. Raise ValueError for what is no Example, or lacks one."""
    from google.protobuf.message import DecodeError

    example = _example()()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise ValueError(f"a record is no tf.train.Example: {error}") from error
    features, contents = example.features.feature, []
    for name in names:
        values = list(features[name].bytes_list.value) if name in features else []
        if len(values) != 1:
            raise ValueError(f"a record has {len(values)} byte strings of the feature {name}, expected one")
        contents += [bytes(value) for value in values]
    return contents


def _check(data: bytes, said: bytes, what: str) -> None:
    from google_crc32c import value

    crc = value(data)
    (expected,) = _SUM.unpack(said)
    actual = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    if actual != expected:
        raise ValueError(f"the sum {what} is {expected:#010x}, and its bytes have {actual:#010x}")


@cache
def _example() -> Any:
    """Return the class of tf.train.Example, of which TensorFlow's example.proto and feature.proto are the definition:
    map<string, Feature> features = 1 of the message features = 1; Feature has bytes_list = 1, each with value = 1.
    """
    from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    optional, repeated = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    of_bytes, text, message = (
        FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_MESSAGE,
    )  # fmt: skip

    def field(into: DescriptorProto, name: str, number: int, label: Any, kind: Any, type_name: str = "") -> None:
        into.field.add(name=name, number=number, label=label, type=kind, type_name=type_name or None)

    file = FileDescriptorProto(name="example.proto", package="vaesvc", syntax="proto3")
    values, feature, features, example = (
        file.message_type.add(name=name) for name in ("BytesList", "Feature", "Features", "Example")
    )
    field(values, "value", 1, repeated, of_bytes)
    field(feature, "bytes_list", 1, optional, message, ".vaesvc.BytesList")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    field(entry, "key", 1, optional, text)
    field(entry, "value", 2, optional, message, ".vaesvc.Feature")
    field(features, "feature", 1, repeated, message, ".vaesvc.Features.FeatureEntry")
    field(example, "features", 1, optional, message, ".vaesvc.Features")
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("vaesvc.Example"))
