"""Every published file format in, the common trainer formats out.

`files` turns a file into rows; `chats` is the table of the published shapes of a row, read by `training`, `benchmarks` and
`choices` with the pieces in `rows`; `read` and `documents` put them together; `write` is the way out. What a file holds is
recognised by its content, never by its name alone: published names lie.
"""

from buckler.formats.chats import FORMATS
from buckler.formats.documents import read_documents
from buckler.formats.read import own_format, read_chats, recognise
from buckler.formats.rows import Format
from buckler.formats.write import WRITERS, write_chats

__all__ = ["FORMATS", "WRITERS", "Format", "own_format", "read_chats", "read_documents", "recognise", "write_chats"]
