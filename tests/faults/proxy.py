"""A proxy before Postgres that can cut a connection between a COMMIT and its answer."""

import contextlib
import socket
import threading


class CommitCutter:
    """Forwards everything; while armed, the next COMMIT goes through, and its answer does not."""

    def __init__(self, host: str, port: int, listens_at: int = 0) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", listens_at))
        self.port: int = self._listener.getsockname()[1]
        self.armed = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                cutting = threading.Event()
                for source, sink, upwards in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=(source, sink, cutting, upwards), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, cutting: threading.Event, upwards: bool) -> None:
        swallowed = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if upwards and self.armed and b"COMMIT" in data:
                    self.armed = False
                    cutting.set()
                if not upwards and cutting.is_set():
                    swallowed += data
                    if b"COMMIT\0" not in swallowed:
                        continue
                    self.cuts += 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
