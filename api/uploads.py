"""Images as they come in: streamed, judged, rid of names and hashed, never held whole in memory."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, TypeAlias

from flask import Request
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_input_stream

from api import archives, dicoms, digests, jpegs, pngs
from api.pieces import Pieces, joined
from api.problems import Problem
from db.batches import Item
from db.blobs import Blobs, Delivery
from settings import Settings
from worker.formats import DICOM, JPEG, MAGIC_BYTES, PNG, media_type
from worker.rejection import ImageRejected

_CHUNK = 1024 * 1024  # as much as gunicorn takes from its socket at once; what it keeps back it copies again
LONGEST_NAME = 1024
_ZIP_BEGINS = (b"PK\x03\x04", b"PK\x05\x06")
_WRITTEN = 64 * 1024
_MOST_HEADERS = 8  # of a part; RFC 7578 has three
_CLEANED = {PNG: pngs.cleaned, JPEG: jpegs.cleaned, DICOM: dicoms.cleaned}

_Event: TypeAlias = MultipartSegment | bytes | None


class Intake:
    """Collects the items of one submission and enforces the published limits while they stream in."""

    def __init__(self, delivery: Delivery, settings: Settings) -> None:
        self._delivery = delivery
        self._settings = settings
        self._names: set[str] = set()
        self._taken = 0
        self.most_images = settings.max_images
        self.items: list[Item] = []

    def add(self, name: str, data: Iterator[bytes]) -> None:
        """Take one file in: a zip is opened, everything else is taken for an image."""
        head, data = _peek(data)
        if head.startswith(_ZIP_BEGINS) and media_type(head) is None:  # a DICOM file may begin with anything
            self.add_zip(data)
        else:
            self.add_image(name, data)

    def add_zip(self, data: Iterator[bytes]) -> None:
        with self._delivery.spool() as spool:
            for chunk in self._counted(data):
                spool.write(chunk)
            spool.flush()
            for name, entry in archives.entries(spool.fileno(), self._settings):
                self.add_image(name, entry)

    def all(self) -> list[Item]:
        """Everything that was taken in, or Problem if there is no image among it."""
        if not self.items:
            raise Problem(422, "empty_batch", "The request holds no files; send at least one image.")
        if not any(item.media_type for item in self.items):
            refused = [{"custom_id": item.custom_id, "code": item.code} for item in self.items[:100]]
            raise Problem(422, "no_images", "None of the files is a PNG, JPEG or DICOM image.", images=refused)
        return self.items

    def add_image(self, name: str, data: Iterator[bytes]) -> None:
        self._check_name(name)
        file = Pieces(self._counted(data), most=self._settings.max_image_bytes, max_pixels=self._settings.max_pixels)
        kind = ""
        try:
            kind = media_type(file.peek(MAGIC_BYTES)) or ""
            sha256, size = self._keep(file, kind)
            self.items.append(Item(name, sha256, size, kind))
        except ImageRejected as rejected:
            sha256, size = file.refuse()
            self.items.append(Item(name, sha256, size, kind, rejected.code))

    def _keep(self, file: Pieces, kind: str) -> tuple[str, int]:
        """Keep the file without what names a person, and return its SHA-256 and size. Raises ImageRejected."""
        if not kind:
            code = "unsupported_type" if file.peek(1) else "truncated"
            raise ImageRejected(code, "not a PNG, JPEG or DICOM file")
        blob = self._delivery.open()
        try:
            for piece in joined(_CLEANED[kind](file), _WRITTEN):
                blob.write(piece)
        except ImageRejected:
            blob.discard()
            raise
        return blob.close(), blob.size

    def _check_name(self, name: str) -> None:
        if not name or len(name.encode(errors="replace")) > LONGEST_NAME or "\x00" in name:
            raise Problem(422, "custom_id_invalid", f"Every file needs a name of 1 to {LONGEST_NAME} bytes of UTF-8.")
        if name in self._names:
            raise Problem(422, "custom_id_twice", "Two files have the same name; give each its own.", custom_id=name)
        self._names.add(name)
        if len(self._names) > self._settings.max_images:
            limit = self._settings.max_images
            raise Problem(413, "too_many_images", f"A batch holds at most {limit} images; send several batches.")

    def _counted(self, data: Iterable[bytes]) -> Iterator[bytes]:
        """What comes out of an archive counts like what comes in."""
        for chunk in data:
            self._taken += len(chunk)
            if self._taken > self._settings.max_batch_bytes:
                raise _too_large(self._settings)
            yield chunk


def receive(request: Request, blobs: Blobs, delivery: Delivery, settings: Settings) -> list[Item]:
    """Read the request's body to its end and return its images. Raises Problem; keeps nothing by itself."""
    check_length(request, blobs, settings)
    intake = Intake(delivery, settings)
    if request.mimetype == "multipart/form-data":
        _receive_parts(request, intake, settings)
    elif request.mimetype == "application/zip":
        intake.add_zip(_chunks(request, settings))
    else:
        words = "Send multipart/form-data with files, application/zip, or application/json for a draft or an import."
        raise Problem(415, "unsupported_media_type", words)
    return intake.all()


def receive_one(request: Request, name: str, blobs: Blobs, delivery: Delivery, settings: Settings) -> Item:
    """Read the request's body, which is one image, to its end. Raises Problem; keeps nothing by itself."""
    check_length(request, blobs, settings)
    intake = Intake(delivery, settings)
    with digests.checked(request, _chunks(request, settings)) as body:
        intake.add_image(name, body)
    return intake.items[0]


def check_length(request: Request, blobs: Blobs, settings: Settings) -> None:
    """Refuse what cannot be taken before it is read."""
    if (request.content_length or 0) > settings.max_batch_bytes:
        raise _too_large(settings)
    if blobs.free_bytes() - (request.content_length or 0) < settings.min_free_bytes:
        raise Problem(507, "disk_full", "The server is short of disk; tell its operator.", retryable=True)


def _receive_parts(request: Request, intake: Intake, settings: Settings) -> None:
    boundary = request.mimetype_params.get("boundary")
    if not boundary:
        raise Problem(400, "malformed_body", "The Content-Type names no boundary.")
    try:
        many = settings.max_images + 1
        parser = PushMultipartParser(boundary, max_segment_count=many, max_header_count=_MOST_HEADERS)
        events = _events(parser, _chunks(request, settings))
        for segment in events:
            if not isinstance(segment, MultipartSegment) or (name := _file_name(segment)) is None:
                raise Problem(400, "malformed_body", "A part has no file name; options go into the query.")
            intake.add(name, _until_end(events))
    except ParserLimitReached as error:
        if "header" in str(error):
            raise Problem(400, "malformed_body", f"A part has over {_MOST_HEADERS} headers, or a long one.") from error
        raise Problem(413, "too_many_images", f"A batch holds at most {settings.max_images} images.") from error
    except MultipartError as error:
        raise Problem(400, "malformed_body", "The multipart body is cut off or malformed; send it again.") from error


def _file_name(part: MultipartSegment) -> str | None:
    """As browsers send it, or else as older libraries do, in RFC 5987's way."""
    extended = parse_options_header(part.header("Content-Disposition"))[1].get("filename")
    return extended if part.filename is None or part.filename.startswith("=?") else part.filename


def _events(parser: PushMultipartParser, chunks: Iterator[bytes]) -> Iterator[_Event]:
    for chunk in chunks:
        yield from parser.parse(chunk)
    parser.close()


def _until_end(events: Iterator[_Event]) -> Iterator[bytes]:
    """The data of the present part; the parser marks its end with None."""
    for event in events:
        if event is None:
            return
        if not isinstance(event, MultipartSegment):
            yield event


def _chunks(request: Request, settings: Settings) -> Iterator[bytes]:
    """The body as it comes, counted: also what stands before, between and after the files."""
    received = 0
    # Not request.stream, whose limit is for what is held whole, and which hides that a client stopped in the middle.
    stream = get_input_stream(request.environ)
    while chunk := _next(stream):
        received += len(chunk)
        if received > settings.max_batch_bytes:
            raise _too_large(settings)
        yield chunk


def _next(stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_CHUNK)
    except BlockingIOError as error:  # see api.server: the socket's patience is over
        raise Problem(408, "stalled", "The upload stood still for too long; send it again.", retryable=True) from error


def _peek(data: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return enough of the beginning to tell the type, and the same data from its beginning."""
    head = b""
    for chunk in data:
        head += chunk
        if len(head) >= MAGIC_BYTES:
            break
    return head, chain([head], data)


def _too_large(settings: Settings) -> Problem:
    return Problem(413, "too_large", f"A request holds at most {settings.max_batch_bytes} bytes; send several batches.")
