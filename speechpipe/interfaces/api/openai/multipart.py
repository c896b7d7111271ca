"""Parsing of an upload's multipart body: one file and some small fields, with tolerance for their headers.

The part named `file` is the file, with or without a `filename`. For names that are not ASCII, some HTTP libraries write
only `filename*=`, which RFC 7578 forbids and the parser ignores; others write no file name at all.
"""

from collections.abc import AsyncGenerator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from speechpipe.errors import BadInput, InvalidParameter

FILE = "file"
MAX_FIELDS = 192
MAX_FIELD_BYTES = 64 * 1024


class UploadParser(MultiPartParser):
    """Starlette's parser, which spools files above 1 MiB to disk, with errors that name the part."""

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers, stream, max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        self.whole = False  # whether the closing boundary has arrived

    def on_end(self) -> None:
        """Note the closing boundary."""
        self.whole = True

    def discard(self) -> None:
        """Close the files of incomplete parts."""
        for file in self._files_to_close_on_error:
            file.close()

    def on_headers_finished(self) -> None:
        """Treat a part named `file` as a file, if there is none yet."""
        disposition = self._current_part.content_disposition
        options = parse_options_header(disposition)[1]
        if b"name" not in options:
            raise MultiPartException("a part has no name: its Content-Disposition needs `name`")
        if options[b"name"] == FILE.encode() and b"filename" not in options and not self._current_files:
            self._current_part.content_disposition = b'form-data; name="file"; filename=""'
        super().on_headers_finished()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Append data of a part.

        Raises:
            InvalidParameter: a field is too long.
        """
        part = self._current_part
        if part.file is None and len(part.data) + end - start > MAX_FIELD_BYTES:
            name = part.field_name[:80]
            hint = "" if self._current_files else "; the audio belongs in the field `file`"
            raise InvalidParameter(f"the field {name!r} has more than {MAX_FIELD_BYTES} bytes{hint}", param=name)
        super().on_part_data(data, start, end)


async def parse(headers: Headers, stream: AsyncGenerator[bytes, None]) -> FormData:
    """Parse a body. The caller closes the form.

    Raises:
        BadInput: it is not a multipart body, is incomplete, or has too many parts.
        InvalidParameter: a field is too long.
    """
    parser = UploadParser(headers, stream)
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        text = getattr(error, "message", str(error))
        raise BadInput(f"invalid multipart body: {text}", cause="broken_multipart") from error
    if not parser.whole:
        await form.close()
        parser.discard()
        raise BadInput("incomplete multipart body: the closing boundary is missing", cause="broken_multipart")
    return form
