"""Forms with files, written to where they shall be as they come; what is too much ends them at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from mlcore.studio.uploads import room_on_disk, safe_name
from mlcore.studio.words import size as words

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["Form", "received"]

_FILES, _FIELDS = 1000, 10
_WORDS = 65536  # bytes of a field that is no file
_HELD = 256 << 10  # bytes that are kept in memory before they are written
_LOOK = 8 << 20  # bytes after which the disk is looked at again


@dataclass
class Form:
    """What a form held.

    Attributes:
        files: names of those in the folder, in order.
        fields: texts by name.
    """

    files: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def received(request: Request, folder: Path, largest: int, most: int, spare: int) -> Form:
    """Read a request that is a form (multipart/form-data) and write its ``files`` to a folder.

    Args:
        request: nothing of it was read.
        folder: there, and empty.
        largest: bytes of a file.
        most: bytes of all files.
        spare: bytes of the disk that stay free.

    Raises:
        HTTPException: 400, it is no form; 413, too much; 507, the disk is full.
        OSError: a file cannot be written.
    """
    head, options = parse_options_header(request.headers.get("content-type", ""))
    if head != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(422, _missing())
    reader = _Reader(folder, largest, most, spare)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        async for chunk in _stream(request):
            parser.write(chunk)
            if reader.held > _HELD:
                await asyncio.to_thread(reader.write)
        parser.finalize()
        if not reader.ended:
            raise HTTPException(400, "the form has no end")
        await asyncio.to_thread(reader.finish)
    except FormParserError as error:
        raise HTTPException(400, f"the form cannot be read: {error}"[:300]) from None
    finally:
        reader.close()
    if not reader.form.files:
        raise HTTPException(422, _missing())
    return reader.form


def _missing() -> dict[str, object]:
    told = "send one or more, as multipart/form-data"
    return {
        "detail": f"files: {told}",
        "problems": [{"field": "files", "message": told}],
    }


async def _stream(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise HTTPException(400, "the connection ended before the files did") from None


class _Reader:
    """What the parser tells of a form: kept, and written from time to time."""

    def __init__(self, folder: Path, largest: int, most: int, spare: int) -> None:
        self.form, self.held, self.ended = Form(), 0, False
        self._folder, self._largest, self._most, self._spare = folder, largest, most, spare
        self._header, self._value, self._disposition = b"", b"", b""
        self._field, self._text = "", bytearray()
        self._is_file, self._fields = False, 0
        self._size = self._whole = self._looked = 0
        # what is to be written: the beginning of a file, or some of its bytes
        self._pending: list[str | bytes] = []
        self._target: BinaryIO | None = None

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def close(self) -> None:
        if self._target is not None:
            with contextlib.suppress(OSError):  # which was told before
                self._target.close()

    # -- what the parser tells ---------------------------------------------------------------------
    def _part_begin(self) -> None:
        self._disposition, self._text, self._size = b"", bytearray(), 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, told = parse_options_header(self._disposition)
        if b"name" not in told:
            raise FormParserError("a part has no name")
        self._field = told[b"name"].decode("utf-8", "replace")
        self._is_file = b"filename" in told
        if self._is_file:
            self._begin(told[b"filename"].decode("utf-8", "replace"))
        else:
            self._fields += 1
            if self._fields > _FIELDS:
                raise FormParserError(f"more than {_FIELDS} fields")

    def _begin(self, name: str) -> None:
        if self._field != "files":
            raise FormParserError("files are sent as the field files")
        if len(self.form.files) == _FILES:
            raise FormParserError(f"more than {_FILES} files")
        found = safe_name(name, self.form.files)
        self.form.files.append(found)
        self._pending.append(found)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if not self._is_file:
            if self._size > _WORDS:
                raise FormParserError(f"a field has more than {_WORDS} bytes")
            self._text += data[start:end]
            return
        if self._size > self._largest:
            told = (
                f"{self.form.files[-1]} is larger than {words(self._largest)}, the most of a file"
            )
            raise HTTPException(413, told)
        self._whole += end - start
        if self._whole > self._most:
            raise HTTPException(413, "the files are more than you may still store")
        self._pending.append(data[start:end])
        self.held += end - start

    def _part_end(self) -> None:
        if not self._is_file:
            self.form.fields[self._field] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True

    # -- writing -----------------------------------------------------------------------------------
    def write(self) -> None:
        """Bring what is held to the disk."""
        for one in self._pending:
            if isinstance(one, str):
                self._end_file()
                self._target = (self._folder / one).open("xb")
            elif self._target is not None:
                self._target.write(one)
        self._pending.clear()
        self.held = 0
        if self._whole - self._looked > _LOOK:
            self._looked = self._whole
            room_on_disk(self._folder, self._spare)

    def finish(self) -> None:
        """All of it is on the disk."""
        self.write()
        self._end_file()

    def _end_file(self) -> None:
        if self._target is not None:
            self._target.close()
