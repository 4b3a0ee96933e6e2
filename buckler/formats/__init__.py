"""Every published file format in, the common trainer formats out.

`table` turns a file into rows (`json_rows`, `csv_rows`, `datasets_rows`); `chats` is the table of the published shapes of a
row, read by `training`, `safety`, `choices` and `tasks`; `beside` adds what stands in a neighbouring file; `read` and
`documents` put them together; `write` is the way out. What a file holds is told from what is in it, never from its name
alone: published names lie.
"""

from buckler.formats.chats import FORMATS
from buckler.formats.documents import read_documents
from buckler.formats.read import own_format, read_chats, recognise
from buckler.formats.rows import Format
from buckler.formats.write import WRITERS, write_chats

__all__ = ["FORMATS", "WRITERS", "Format", "own_format", "read_chats", "read_documents", "recognise", "write_chats"]
