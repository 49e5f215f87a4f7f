"""A batch that is filled image by image, and submitted when it is complete."""

import base64
import hashlib
from pathlib import Path
from urllib.parse import quote

from cxr_client.answers import Image, Submitted, read
from cxr_client.transport import Transport
from cxr_client.uploads import pieces, size_of


class Draft:
    """One open draft. Every method raises ClientError; what was lost on the way is sent again."""

    def __init__(self, transport: Transport, batch_id: str) -> None:
        self._transport = transport
        self.id = batch_id

    def put(self, custom_id: str, path: str | Path) -> Image:
        """Put one image in, streamed, its bytes checked at the other end; the same again changes nothing."""
        size = size_of(Path(path))
        digest = hashlib.sha256()
        for piece in pieces(Path(path), size):
            digest.update(piece)
        headers = {
            "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
            "Content-Length": str(size),
        }
        address = f"{at(self.id)}/images/{quote(custom_id, safe='')}"
        return read(Image, self._transport.json("PUT", address, headers=headers, body=lambda: pieces(Path(path), size)))

    def submit(self) -> Submitted:
        """Close it and queue its images."""
        return read(Submitted, self._transport.json("POST", f"{at(self.id)}/submit"))


def at(batch_id: str) -> str:
    """The address of a batch."""
    return f"/v1/batches/{quote(batch_id, safe='')}"
