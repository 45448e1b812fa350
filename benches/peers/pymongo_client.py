"""Follows the change stream of a replay server with PyMongo.

`pymongo_client.py URI WAY seconds|events AMOUNT` prints events and seconds.
"""

import sys
import time

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient


def main(uri, way, unit, amount):
    enough = int(amount) if unit == "events" else None
    limit = float(amount) if unit == "seconds" else None
    options = {"document_class": RawBSONDocument} if way == "raw" else {}
    client = MongoClient(uri, **options)
    with client["shop"]["orders"].watch() as stream:
        next(stream)
        start = time.perf_counter()
        events = 0
        for _ in stream:
            events += 1
            if events == enough:
                break
            if limit and events % 256 == 0 and time.perf_counter() - start >= limit:
                break
        print(events, time.perf_counter() - start)


main(*sys.argv[1:])
