"""Which files one command enters, and how deep: `python tools/call_trace.py OUT.json COMMAND ...` traces `buckler COMMAND ...`.

Definitions, for the package's own files alone:

* A file is **entered** when a Python function of it is called: functions, methods, generators, lambdas. The body of a module or
  of a class is not a function, and what runs while a module body runs (decorators, tables made by a call) belongs to the import,
  not to the command.
* The **chain** at a moment is the stack of calls at that moment written as files, with other packages' frames left out and
  repeats of the same file in a row written once: `cli/rows -> curation/curator -> models/scoring -> curation/curator` is a chain
  of four. The longest one of the run is the number that is reported.
* `functions` are the different functions and methods called, without lambdas and comprehensions; `file_calls` are the different
  pairs of files of which one called the other.
* `modules` are the package's modules loaded when the command ends.

Only this process is traced, with all its threads: run the command with one worker.
"""

from __future__ import annotations

import inspect
import json
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType

PACKAGE = "buckler"


class Trace:
    """Follows calls by `sys.setprofile` and keeps what the definitions above ask for."""

    def __init__(self, folder: Path) -> None:
        self.folder = f"{folder}/"
        self.files: set[str] = set()
        self.functions: set[tuple[str, str, int]] = set()
        self.calls: set[tuple[str, str]] = set()
        self.chain: list[str] = []
        self._files: dict[CodeType, str | None] = {}
        self._threads = threading.local()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """The profile function: `call` and `return` of Python frames; C functions are passed over."""
        if event not in ("call", "return"):
            return
        code = frame.f_code
        file = self._file(code)
        if file is None:
            return
        stack: list[tuple[FrameType, str]] = self._threads.__dict__.setdefault("stack", [])
        if event == "return":
            if stack and stack[-1][0] is frame:
                stack.pop()
            return
        stack.append((frame, file))
        if not any(one.f_code.co_flags & inspect.CO_NEWLOCALS == 0 for one, _ in stack):
            self._enter(code, file, [name for _, name in stack])

    def _enter(self, code: CodeType, file: str, files: list[str]) -> None:
        self.files.add(file)
        if not code.co_name.startswith("<"):
            self.functions.add((file, code.co_qualname, code.co_firstlineno))
        chain = [name for at, name in enumerate(files) if at == 0 or files[at - 1] != name]
        if len(chain) > 1:
            self.calls.add((chain[-2], chain[-1]))
        if len(chain) > len(self.chain):
            self.chain = chain

    def _file(self, code: CodeType) -> str | None:
        """The file of a function or module body, relative to the package; None for what is not ours and for class bodies."""
        if code not in self._files:
            name = code.co_filename
            ours = name.startswith(self.folder) and (code.co_flags & inspect.CO_OPTIMIZED or code.co_name == "<module>")
            self._files[code] = name[len(self.folder) :] if ours else None
        return self._files[code]

    def to_json(self) -> dict[str, object]:
        """What was seen, as plain values."""
        return {
            "files": sorted(self.files),
            "functions": len(self.functions),
            "file_calls": len(self.calls),
            "chain": self.chain,
            "modules": sum(name.split(".")[0] == PACKAGE for name in sys.modules),
        }


def main() -> None:
    """Run the command line under the trace; its exit status is kept."""
    out, *arguments = sys.argv[1:]
    package = __import__(PACKAGE)
    trace = Trace(Path(str(package.__file__)).parent)
    threading.setprofile(trace)
    sys.setprofile(trace)
    status: object = 0
    try:
        from buckler.cli import main as command

        sys.argv = [PACKAGE, *arguments]
        command()
    except SystemExit as ended:
        status = ended.code
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    Path(out).write_text(json.dumps({**trace.to_json(), "status": status}), encoding="utf-8")


if __name__ == "__main__":
    main()
