"""``python -m benchmarks.floor PORT BYTES``: the floor. Takes BYTES, answers one byte, again.

Nothing that receives a batch over a socket can be faster than receiving it over a socket. A third
number is the size of the one buffer that all BYTES go through; without it the buffer holds them.
"""

import socket
import sys


def serve(port: int, count: int, buffer_bytes: int) -> None:
    """Take ``count`` bytes and answer one byte, until the other side closes."""
    buffer = memoryview(bytearray(buffer_bytes))
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                while _taken(connection, buffer, count):
                    connection.sendall(b"\0")


def _taken(connection: socket.socket, buffer: memoryview, count: int) -> bool:
    """Take ``count`` bytes; tell whether the other side has not closed before."""
    position = 0
    while count:
        got = connection.recv_into(buffer[position : position + count])
        if not got:
            return False
        count -= got
        position = (position + got) % len(buffer)
    return True


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    serve(numbers[0], numbers[1], numbers[-1])
