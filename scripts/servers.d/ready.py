"""ready.py NAME PORT: exits 0 when that server answers its own protocol, else 1. Makes MongoDB a replica set first."""

import socket
import struct
import sys
import urllib.request


def mongo(port):
    from pymongo import MongoClient
    from pymongo.errors import OperationFailure

    with MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=1000) as client:
        try:
            member = {"_id": 0, "host": f"127.0.0.1:{port}"}
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
        except OperationFailure as failure:
            already_initialized = 23
            if failure.code != already_initialized:
                raise
        return client.admin.command("hello")["isWritablePrimary"]


def exchange(port, request, answer_bytes):
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(request)
        answer = b""
        while len(answer) < answer_bytes:
            more = connection.recv(answer_bytes - len(answer))
            if not more:
                break
            answer += more
        return answer


def kafka(port):
    # ApiVersions, version 0, without a client id: answered once the broker takes requests.
    request = struct.pack(">hhih", 18, 0, 1, -1)
    answer = exchange(port, struct.pack(">i", len(request)) + request, 10)
    return len(answer) == 10 and struct.unpack(">iih", answer)[1:] == (1, 0)


def redis(port):
    return exchange(port, b"PING\r\n", 7) == b"+PONG\r\n"


def smtp(port):
    return exchange(port, b"", 3) == b"220"


def prometheus(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2) as answer:
        return answer.status == 200


checks = {check.__name__: check for check in (mongo, kafka, redis, smtp, prometheus)}
try:
    sys.exit(0 if checks[sys.argv[1]](int(sys.argv[2])) else 1)
except Exception as error:
    sys.exit(f"not ready: {error}")
