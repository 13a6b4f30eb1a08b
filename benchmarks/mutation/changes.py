"""The changes of a module of Python that make its mutants."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from functools import partial

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_NAMES = {"min": "max", "any": "all", "minimum": "maximum", "argmin": "argmax", "floor": "ceil"}
_NAMES |= {new: old for old, new in _NAMES.items()}


Mutant = tuple[int, str, str, str]
"""The number of the changed line, the line before and after, and the whole text."""
Change = tuple[Callable[[], object], Callable[[], object]]
"""A function that changes a tree in place, and a function that reverts the change."""
Put = Callable[[ast.AST], object]
"""A function that replaces a node with another one."""


def changes(tree: ast.Module) -> Iterator[Change]:
    """Yield every change of a module."""
    for node, parent, put in _nodes(tree, tree, lambda new: None):
        yield from _of_node(node, put)
        is_test = isinstance(parent, ast.If | ast.IfExp | ast.While) and node is parent.test
        if is_test and isinstance(node, ast.expr) and not isinstance(node, ast.UnaryOp):
            yield _replacement(node, put, ast.UnaryOp(ast.Not(), node))
        if isinstance(node, ast.Raise | ast.AugAssign) or _is_call(node):
            yield _replacement(node, put, ast.Pass())


def _nodes(node: ast.AST, parent: ast.AST, put: Put) -> Iterator[tuple[ast.AST, ast.AST, Put]]:
    """Yield nodes with their parents and what replaces them, but for texts of errors, annotations and type checks."""
    yield node, parent, put
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "exc", "cause", "decorator_list"):
            continue
        if isinstance(value, ast.AST):
            yield from _nodes(value, node, partial(setattr, node, name))
        for at, child in enumerate(value if isinstance(value, list) else []):
            if isinstance(child, ast.AST):
                yield from _nodes(child, node, partial(value.__setitem__, at))


def _of_node(node: ast.AST, put: Put) -> Iterator[Change]:
    if type(node) in _OPERATORS:
        yield _replacement(node, put, _OPERATORS[type(node)]())
    match node:
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield _replacement(node, put, node.operand)
        case ast.Constant(value=bool(value)):
            yield _swap(node, "value", not value)
        case ast.Constant(value=int(value) | float(value)):
            yield _swap(node, "value", value + 1)
        case ast.Name(id=name) if name in _NAMES:
            yield _swap(node, "id", _NAMES[name])
        case ast.Attribute(attr=name) if name in _NAMES:
            yield _swap(node, "attr", _NAMES[name])


def _swap(node: ast.AST, name: str, new: object) -> Change:
    return partial(setattr, node, name, new), partial(setattr, node, name, getattr(node, name))


def _replacement(node: ast.AST, put: Put, new: ast.AST) -> Change:
    return partial(put, new), partial(put, node)


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def mutants(source: str, rng: random.Random) -> Iterator[Mutant]:
    """Yield the mutants of a module in random order."""
    tree = ast.parse(source)
    plain, seen = ast.unparse(tree), set()
    every = list(changes(tree))
    rng.shuffle(every)
    for make, undo in every:
        make()
        text = ast.unparse(tree)
        undo()
        pairs = enumerate(zip(plain.splitlines(), text.splitlines(), strict=False), 1)
        line = next(((at, old.strip(), new.strip()) for at, (old, new) in pairs if old != new), None)
        if line is not None and text not in seen:
            seen.add(text)
            yield (*line, text)
