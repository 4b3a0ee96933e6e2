"""Every published file format in, the common trainer formats out.

`files` turns a file into rows; `chats` is the table of the published shapes of a row, read by `training`, `benchmarks` and
`choices` with the pieces in `rows`; `read` and `documents` put them together; `write` is the way out. What a file holds is
recognised by its content, never by its name alone: published names lie.
"""

from buckler.formats.account import Account, Reading, account_lines
from buckler.formats.chats import FORMATS
from buckler.formats.context import companion
from buckler.formats.documents import read_accounted_documents, read_documents
from buckler.formats.read import (
    DocumentsError,
    columns_of,
    own_format,
    read_accounted,
    read_chats,
    recognise,
    splits_of,
)
from buckler.formats.rows import Format
from buckler.formats.write import WRITERS, write_chats

__all__ = [
    "FORMATS",
    "WRITERS",
    "Account",
    "DocumentsError",
    "Format",
    "Reading",
    "account_lines",
    "columns_of",
    "companion",
    "own_format",
    "read_accounted",
    "read_accounted_documents",
    "read_chats",
    "read_documents",
    "recognise",
    "splits_of",
    "write_chats",
]
