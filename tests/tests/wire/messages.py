"""Messages by PyMongo, an implementation that shares nothing with the one under test.

write FILE   writes messages with PyMongo's encoder, one JSON object a line: the message in
             hexadecimal, and what it says
read FILE    reads messages, one in hexadecimal a line, with PyMongo's decoder, and prints what
             each says, one JSON object a line
"""

import datetime
import json
import sys

import bson
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from pymongo import message
from pymongo.compression_support import SnappyContext, ZlibContext, ZstdContext, decompress
from pymongo.read_preferences import SecondaryPreferred

CONTEXTS = {
    None: None,
    "snappy": SnappyContext(),
    "zlib": ZlibContext(-1),
    "zlib, level 9": ZlibContext(9),
    "zstd": ZstdContext(),
}

EVERY_TYPE = {
    "double": 1.5,
    "string": "naïve \u2603",
    "document": {"a": {}},
    "array": [1, [2]],
    "binary": Binary(b"\x00\xff", 5),
    "id": ObjectId(b"123456789012"),
    "flag": True,
    "date": datetime.datetime(2020, 1, 2, 3, 4, 5),
    "null": None,
    "regex": Regex("^a", "i"),
    "int32": 1,
    "timestamp": Timestamp(1, 2),
    "int64": Int64(2**40),
    "decimal": Decimal128("1.5"),
    "min": MinKey(),
    "max": MaxKey(),
}


def documents(count):
    return [{"_id": number, "text": "event " * 20} for number in range(count)]


def commands():
    """Each with its flags."""
    yield 0, {"ping": 1}
    yield 0, {"ping": 1, "everything": EVERY_TYPE}
    yield 0, {"find": "c", "filter": {"_id": {"$gt": 3}}}
    yield 0, {"insert": "c", "documents": documents(1)}
    yield 0, {"insert": "c", "documents": documents(1000), "ordered": False}
    yield message._OpMsg.MORE_TO_COME, {"delete": "c", "deletes": [{"q": {}, "limit": 0}]}
    yield message._OpMsg.EXHAUST_ALLOWED, {"getMore": Int64(7), "collection": "c"}
    updates = [{"q": {"_id": number}, "u": {"$inc": {"n": 1}}} for number in range(50)]
    yield 0, {"update": "c", "updates": updates}


def described(flags, command, request_id, compressor):
    """What the message says; documents are in BSON, in hexadecimal."""
    body = dict(command)
    name = next(iter(body))
    identifier = message._FIELD_MAP.get(name)
    sequence = [bson.encode(document).hex() for document in body.pop(identifier, [])]
    return {
        "request_id": request_id,
        "flags": flags,
        "command": name,
        "database": body["$db"],
        "body": bson.encode(body).hex(),
        "identifier": identifier,
        "sequence": sequence,
        "compressor": compressor and compressor.split(",")[0],
    }


def write(path):
    with open(path, "w") as out:
        for flags, command in commands():
            for name, context in CONTEXTS.items():
                preference = SecondaryPreferred() if "find" in command else None
                # The encoder adds its own fields to the command.
                request_id, frame, _, _ = message._op_msg(
                    flags, command, "db", preference, DEFAULT_CODEC_OPTIONS, context
                )
                says = described(flags, command, request_id, name)
                out.write(json.dumps({"frame": frame.hex(), "says": says}) + "\n")


def read(path):
    with open(path) as lines:
        for line in lines:
            frame = bytes.fromhex(line)
            length, request_id, response_to, opcode = message.struct.unpack("<iiii", frame[:16])
            assert length == len(frame)
            compressor, body = None, frame[16:]
            if opcode == 2012:
                opcode, size, compressor = message.struct.unpack("<iiB", body[:9])
                body = decompress(body[9:], compressor, 48_000_000)
                assert size == len(body)
            assert opcode == message._OpMsg.OP_CODE
            reply = message._OpMsg.unpack(body)
            says = {
                "request_id": request_id,
                "response_to": response_to,
                "flags": reply.flags,
                "body": bytes(reply.payload_document).hex(),
                "keys": list(reply.command_response(DEFAULT_CODEC_OPTIONS)),
                "compressor": compressor,
            }
            print(json.dumps(says))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](sys.argv[2])
