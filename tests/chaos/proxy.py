"""A TCP proxy that can be cut, and can stall: connections stay open, and nothing comes through."""

import contextlib
import selectors
import socket
import struct
import threading

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST, as a machine that forgot the connection does
_CHUNK = 1 << 16


class Proxy:
    """Listens on a free port of loopback and forwards to another, in one thread."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._way = "open"
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._silent: list[socket.socket] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End every connection, and every new one at once."""
        self._way = "cut"

    def stall(self) -> None:
        """Swallow everything; nobody is told."""
        self._way = "stalled"

    def heal(self, *, silent: bool = False) -> None:
        """Let new connections through; those from before are reset, or stay `silent` for ever."""
        self._way = "silencing" if silent else "healing"

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._reset_all()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._way in {"cut", "healing"}:
                self._reset_all()
            if self._way == "silencing":
                self._silent += self._pairs
                self._pairs.clear()
            if self._way in {"healing", "silencing"}:
                self._way = "open"
            self._forward_once()

    def _forward_once(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            if self._way == "open":
                for one in self._pairs:
                    selector.register(one, selectors.EVENT_READ)
            for key, _ in selector.select(timeout=0.02):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._forward(key.fileobj)  # type: ignore[arg-type]
        if self._way == "stalled":
            self._stopped.wait(0.02)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=1)
        except OSError:
            _reset(near)
            return
        far.settimeout(10)
        near.settimeout(10)
        self._pairs |= {near: far, far: near}

    def _forward(self, source: socket.socket) -> None:
        if source not in self._pairs:
            return
        try:
            data = source.recv(_CHUNK)
            if data:
                self._pairs[source].sendall(data)
                return
        except OSError:
            pass
        self._end(source)

    def _end(self, one: socket.socket) -> None:
        other = self._pairs.pop(one)
        del self._pairs[other]
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.close()

    def _reset_all(self) -> None:
        for one in [*self._pairs, *self._silent]:
            _reset(one)
        self._pairs.clear()
        self._silent.clear()


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.close()
