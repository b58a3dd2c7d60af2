"""``python -m benchmarks.floor PORT BYTES BUFFER``: takes BYTES, answers one byte, again.

The floor: nothing that receives a batch over a socket can be faster than receiving it over a
socket. A BUFFER smaller than the batch is filled again and again, so that the bytes go nowhere.
"""

import socket
import sys


def serve(port: int, count: int, buffer: int) -> None:
    """Take ``count`` bytes into a buffer and answer one byte, until the other side closes."""
    room = memoryview(bytearray(buffer))
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                while _taken(connection, count, room):
                    connection.sendall(b"\0")


def _taken(connection: socket.socket, count: int, room: memoryview) -> bool:
    """Receive the bytes; tell whether the other side has not closed before."""
    position = 0
    while position < count:
        at = position % len(room)
        got = connection.recv_into(room[at : at + count - position])
        if not got:
            return False
        position += got
    return True


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
