"""``python -m benchmarks.floor PORT BYTES``: the floor. Takes BYTES, answers one byte, again.

Nothing that receives a batch over a socket can be faster than receiving it over a socket.
"""

import socket
import sys


def serve(port: int, count: int) -> None:
    """Take ``count`` bytes into one buffer and answer one byte, until the other side closes."""
    whole = memoryview(bytearray(count))
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                while _filled(connection, whole):
                    connection.sendall(b"\0")


def _filled(connection: socket.socket, whole: memoryview) -> bool:
    """Fill the buffer; tell whether the other side has not closed before."""
    position = 0
    while position < len(whole):
        got = connection.recv_into(whole[position:])
        if not got:
            return False
        position += got
    return True


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
