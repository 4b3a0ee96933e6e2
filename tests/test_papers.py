"""Papers are read as sentences whatever file they come in; what cannot be read is one clear line."""

from __future__ import annotations

import logging
import sys

import pytest

from buckler.curation import papers
from buckler.curation.papers import paper_text, read_papers, sentences
from buckler.errors import ConfigError, DataError

TEXT = "Informed consent comes first. It is asked for, e.g. by Alder et al. in a form."


def pdf(path, *pages, **metadata):
    """A PDF with a line of text for each string of each page."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with PdfPages(path) as file:
        for lines in pages:
            figure = Figure(figsize=(8, 11))
            for at, line in enumerate(lines):
                figure.text(0.05, 0.95 - 0.03 * at, line)
            file.savefig(figure)
    return path


def encrypted(path):
    """A PDF behind a password, in the old cipher that pypdf can write by itself."""
    from pypdf import PdfWriter

    writer = PdfWriter(clone_from=pdf(path, ["Hidden text."]))
    writer.encrypt("open sesame", algorithm="RC4-128")
    writer.write(path)
    return path


def read(path):
    return list(sentences(paper_text(path)))


def test_text_is_split_into_sentences_and_abbreviations_do_not_end_one(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    assert read(tmp_path / "a.txt") == [
        "Informed consent comes first.",
        "It is asked for, e.g. by Alder et al. in a form.",
    ]


def test_markdown_loses_its_markup_and_code(tmp_path):
    (tmp_path / "a.md").write_text(
        "# Care\nWe ask **first** and [read](http://a.org/b) the\nlabel.\n- one item\n- another\n```python\nimport nothing\n```\n"
    )
    assert read(tmp_path / "a.md") == ["Care", "We ask first and read the label.", "one item", "another"]


def test_a_pdf_is_read_without_running_heads_and_page_numbers(tmp_path):
    path = pdf(
        tmp_path / "a.pdf",
        ["Published in a journal", "Duty of care comes", "first.", "1"],
        ["Published in a journal", "Then comes the", "2"],
        ["Published in a journal", "second opinion.", "3"],
    )
    assert read(path) == ["Duty of care comes first.", "Then comes the second opinion."]


def test_words_broken_at_line_ends_are_joined(tmp_path):
    path = pdf(tmp_path / "a.pdf", ["A respon-", "sible model takes evidence-", "based advice from the well-", "known list."])
    assert read(path) == ["A responsible model takes evidence-based advice from the well-known list."]


def test_a_hyphen_stays_where_the_paper_writes_it_elsewhere(tmp_path):
    (tmp_path / "a.txt").write_text("The over-\nsight board. It is an over-sight board. A jail-\nbreak is none.")
    assert read(tmp_path / "a.txt") == ["The over-sight board.", "It is an over-sight board.", "A jailbreak is none."]


@pytest.mark.parametrize(
    "heading", ["References", "REFERENCES", "7 References", "## References", "**Bibliography**", "7. References:"]
)
def test_references_are_cut(tmp_path, heading):
    (tmp_path / "a.txt").write_text(f"{TEXT}\n\n{heading}\nAlder. A paper nobody mines. 2001.")
    assert "nobody" not in paper_text(tmp_path / "a.txt")


def test_a_table_of_contents_and_a_sentence_about_references_cut_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("Contents\nReferences\n" + f"{TEXT} References are checked.\n" * 9 + "The last line stays.")
    assert paper_text(tmp_path / "a.txt").endswith("The last line stays.")


def test_quotes_ligatures_and_soft_hyphens_become_plain(tmp_path):
    (tmp_path / "a.txt").write_text("The \ufb01rst user\u2019s con\u00adsent", encoding="utf-8")
    assert paper_text(tmp_path / "a.txt") == "The first user's consent"


BAD = {
    "latin.txt": (lambda path: path.write_bytes("caf\xe9".encode("latin-1")), "not UTF-8 at byte 3"),
    "empty.md": (lambda path: path.write_text(" \n 12 \n"), "contains no text"),
    "broken.pdf": (lambda path: path.write_bytes(b"%PDF-1.4\n1 0 obj\n<<"), "damaged PDF"),
    "page.pdf": (lambda path: path.write_text("<html>"), "damaged PDF"),
    "scan.pdf": (lambda path: pdf(path, []), r"contains no text \(a scan\?\)"),
    "locked.pdf": (encrypted, "encrypted"),
    "sheet.xlsx": (lambda path: path.write_bytes(b"PK"), "not a .txt"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_skipped_with_its_reason(tmp_path, name, capfd):
    make, reason = BAD[name]
    make(tmp_path / name)
    with pytest.raises(DataError, match=f"none of its 1 files can be read; the first, {name}: {reason}") as fault:
        read_papers(tmp_path)
    assert "\n" not in str(fault.value)
    (tmp_path / "good.txt").write_text(TEXT)
    good, skipped = read_papers(tmp_path)
    assert [one.name for one in good] == ["good.txt"] and [one.name for one in skipped] == [name]
    assert capfd.readouterr().err == ""
    assert logging.getLogger("pypdf").level == logging.NOTSET


def test_a_file_larger_than_any_paper_is_not_opened(tmp_path):
    with (tmp_path / "huge.txt").open("wb") as out:
        out.truncate(50 * 2**20)
    with pytest.raises(DataError, match="50 MiB, and the limit is 32"):
        read_papers(tmp_path)


def test_an_empty_folder_and_no_folder_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="the folder is empty"):
        read_papers(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        read_papers(tmp_path / "nowhere")


def test_folders_are_read_in_the_order_of_names_and_hidden_files_are_not(tmp_path):
    for name in ("b/x.txt", "a.txt", ".git/x.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{TEXT} This is {name}.")
    progress = []
    found, _ = read_papers(tmp_path, lambda *seen: progress.append(seen))
    assert [one.name for one in found] == ["a.txt", "b/x.txt", "c.txt"]
    assert progress[-1] == ("papers read", 3, 3)
    assert [one.name for one in read_papers(tmp_path / "a.txt")[0]] == ["a.txt"]


def test_a_copy_does_not_pass_for_a_second_paper(tmp_path):
    for name in ("a.txt", "b.md"):
        (tmp_path / name).write_text(TEXT)
    found, skipped = read_papers(tmp_path)
    assert len(found) == 1 and (skipped[0].name, skipped[0].reason) == ("b.md", "duplicate of a.txt")


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(TEXT)
    monkeypatch.setattr(papers, "EXTRA", ("nltk", "no_such_library"))
    with pytest.raises(ConfigError, match=r"needs no_such_library: pip install 'buckler\[seeds\]'"):
        read_papers(tmp_path)
    assert "no_such_library" not in sys.modules
