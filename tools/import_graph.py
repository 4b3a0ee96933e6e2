"""Which file imports which: read from the source text, so that nothing is imported and no import is missed.

An edge goes from a module to each module that it names: `from buckler.data import Chat` names `buckler.data`, and
`from buckler.data import jsonl` names `buckler.data.jsonl`, since that is a module. The packages above a named module are not
edges: they would make a cycle of every `__init__.py` that re-exports. `from buckler import __version__` is no edge either: a
name in double underscores is a constant of the file. What stands under `if TYPE_CHECKING:` is never imported and does not
count. An import inside a function counts like any other, and is marked as one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Graph = Mapping[str, Iterable[str]]
"""Each node with the nodes it points at."""


@dataclass(frozen=True, slots=True)
class Import:
    """One module named by one import statement."""

    name: str
    """Dotted, as far as it is a module: `buckler.data`, `torch`, `torch.nn.functional`."""
    line: int
    in_function: bool
    """It runs when the function is called, not when the file is imported."""


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file of a package."""

    name: str
    path: Path
    tree: ast.Module
    lines: int
    imports: tuple[Import, ...]

    @property
    def package(self) -> str:
        """The top-level package or file it belongs to: `data` for `buckler.data.jsonl`, `buckler` for `buckler/__init__.py`."""
        return self.name.partition(".")[2].partition(".")[0] or self.name


def read_package(folder: Path) -> dict[str, Module]:
    """Every module under `folder` (the folder that holds the package's `__init__.py`), by dotted name, sorted."""
    paths = {_dotted(folder, path): path for path in sorted(folder.rglob("*.py"))}
    modules = {}
    for name, path in sorted(paths.items()):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(path))
        above = name if path.name == "__init__.py" else name.rpartition(".")[0]
        modules[name] = Module(name, path, tree, len(text.splitlines()), tuple(_imports(tree, above, paths)))
    return modules


def edges(modules: Mapping[str, Module], *, function_level: bool = True) -> dict[str, set[str]]:
    """The graph of the package's own modules; without `function_level`, only what runs when a file is imported."""
    return {
        name: {one.name for one in module.imports if one.name in modules and (function_level or not one.in_function)} - {name}
        for name, module in modules.items()
    }


def between_packages(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """The graph of the top-level packages, from imports at module and function level."""
    graph: dict[str, set[str]] = {module.package: set() for module in modules.values()}
    for name, targets in edges(modules).items():
        graph[modules[name].package] |= {modules[target].package for target in targets} - {modules[name].package}
    return graph


def cycles(graph: Graph) -> list[list[str]]:
    """Strongly connected components of more than one node, each sorted; the largest first."""
    those = [component for component in components(graph) if len(component) > 1]
    return sorted((sorted(component) for component in those), key=lambda names: (-len(names), names))


def components(graph: Graph) -> list[list[str]]:
    """Strongly connected components, each after the ones it points at (Tarjan's algorithm, without recursion)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    open_nodes: dict[str, None] = {}
    components_: list[list[str]] = []
    for root in graph:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        open_nodes[root] = None
        work = [(root, iter(sorted(graph[root])))]
        while work:
            node, rest = work[-1]
            for target in rest:
                if target not in order:
                    order[target] = low[target] = len(order)
                    open_nodes[target] = None
                    work.append((target, iter(sorted(graph.get(target, ())))))
                    break
                if target in open_nodes:
                    low[node] = min(low[node], order[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    names = list(open_nodes)
                    component = names[names.index(node) :]
                    for name in component:
                        del open_nodes[name]
                    components_.append(component)
    return components_


def longest_chain(graph: Graph) -> list[str]:
    """The longest path of the graph; a cycle on the way counts as one link, shown by its first module."""
    head: dict[str, str] = {}
    best: dict[str, list[str]] = {}
    for component in components(graph):
        first = min(component)
        head.update(dict.fromkeys(component, first))
        below = {head[target] for name in component for target in graph[name]} - {first}
        best[first] = [first, *max((best[one] for one in sorted(below)), key=len, default=[])]
    return max(best.values(), key=len, default=[])


def _dotted(folder: Path, path: Path) -> str:
    parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module, above: str, known: Iterable[str]) -> Iterator[Import]:
    """The imports of a file; `above` is the package that a relative import of one dot stands for."""
    pending: list[tuple[ast.AST, bool]] = [(tree, False)]
    while pending:
        node, inside = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, above)
            for name in dict.fromkeys(f"{base}.{alias.name}" for alias in node.names if not alias.name.startswith("__")):
                yield Import(name if name in known else base, node.lineno, inside)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend((child, inside) for child in node.orelse)
        else:
            deeper = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            pending.extend((child, deeper) for child in ast.iter_child_nodes(node))


def _base(node: ast.ImportFrom, above: str) -> str:
    if not node.level:
        return node.module or ""
    parts = above.split(".")[: len(above.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])
