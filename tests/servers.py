"""Small servers on this machine: motion JPEG as network cameras send it, and other things that may answer."""

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from tests.clips import picture


class Camera:
    """Sends numbered pictures by motion JPEG over HTTP; the number goes on from connection to connection.

    Args:
        rate: pictures per second.
        script: how many pictures each connection brings (the last entry for all further ones).
        before: called with (connection, picture of it) before each picture: may sleep.
        refused: connections (from 0) that are answered by an error.
    """

    def __init__(
        self,
        rate: float = 100,
        script: tuple[int, ...] = (10**6,),
        before: Callable[[int, int], None] = lambda connection, picture: None,
        refused: range = range(0),
    ):
        self.rate, self.script, self.before, self.refused = rate, script, before, refused
        self.connections = self.sent = 0
        self.lock = threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            number = self.connections
            self.connections += 1
        if number in self.refused:
            handler.send_error(503)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        for k in range(self.script[min(number, len(self.script) - 1)]):
            self.before(number, k)
            data = cv2.imencode(".jpg", picture(self.sent % 256, 160, 120)[..., ::-1])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data + b"\r\n")
            self.sent += 1
            time.sleep(1 / self.rate)


@contextmanager
def served(answer: Callable[[BaseHTTPRequestHandler], None]):
    """host:port of a server that answers every GET in this way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                answer(self)
            except OSError:
                return  # the other side has gone

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
