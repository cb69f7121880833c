"""Every regular expression of the tree, found by itself, and inputs that are hostile to it, made from its own parts."""

import ast
import importlib
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice, permutations
from pathlib import Path
from re import _constants as kinds  # ty: ignore[missing-module-member]  # not documented
from re import _parser  # ty: ignore[missing-module-member]
from types import ModuleType
from typing import Any, NamedTuple

from linear_growth import COMMON_PUMPS, Hostile

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("llm_engineering", "steps", "pipelines", "tools")
FUNCTIONS = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
ANCHORED = {"match", "fullmatch"}


class FoundPattern(NamedTuple):
    """`anchored`: it is only tried where the text begins."""

    where: str
    pattern: re.Pattern
    anchored: bool = False

    def __call__(self, text: Any) -> None:
        """Time what the pattern costs over a whole text."""
        if self.anchored:
            self.pattern.match(text)
            self.pattern.fullmatch(text)
        else:
            for _ in self.pattern.finditer(text):
                pass


class UnreadPattern(NamedTuple):
    """A call of `re` whose pattern is only known when it runs."""

    module: str
    function: str
    line: int


# --- where they are -----------------------------------------------------------------------------------------


@cache
def modules() -> tuple[ModuleType, ...]:
    names = (
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__main__.py" and "sample" not in path.parts
    )
    return tuple(importlib.import_module(name.removesuffix(".__init__")) for name in names)


def found_patterns() -> tuple[list[FoundPattern], list[UnreadPattern]]:
    """Those in the globals of every module, and those written where they are used; and those that cannot be read."""
    found: dict[tuple, FoundPattern] = {}
    unread: list[UnreadPattern] = []
    methods = _methods_by_name()
    for module in modules():
        for name, value in vars(module).items():
            used = methods.get(name, set())
            for pattern in _patterns_in(value):
                one = FoundPattern(f"{module.__name__}.{name}", pattern, bool(used) and used <= ANCHORED)
                found.setdefault((pattern.pattern, pattern.flags, one.anchored), one)
        for one in _written_in_functions(module):
            if isinstance(one, UnreadPattern):
                unread.append(one)
            else:
                found.setdefault((one.pattern.pattern, one.pattern.flags, one.anchored), one)
    return list(found.values()), unread


def _patterns_in(value: object, depth: int = 0) -> Iterator[re.Pattern]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict) and depth < 4:
        for one in (*value, *value.values()):
            yield from _patterns_in(one, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset) and depth < 4:
        for one in value:
            yield from _patterns_in(one, depth + 1)
    elif isinstance(value, type) and value.__module__.partition(".")[0] in PACKAGES and depth < 4:
        for one in vars(value).values():
            if not isinstance(one, type):
                yield from _patterns_in(one, depth + 1)


@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))


def _methods_by_name() -> dict[str, set[str]]:
    """What is called on a name anywhere, such as {"_WORD": {"findall"}}; "?" for every other use of it."""
    methods: dict[str, set[str]] = {}
    for module in modules():
        called = set()
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                methods.setdefault(node.value.id, set()).add(node.attr)
                called.add(id(node.value))
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in called:
                methods.setdefault(node.id, set()).add("?")
    return methods


def _written_in_functions(module: ModuleType) -> Iterator[FoundPattern | UnreadPattern]:
    """What stands at the top of a module is in its globals; the rest is read here."""
    for function in ast.walk(_tree(module)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if not (
                isinstance(call.func.value, ast.Name) and call.func.value.id == "re" and call.func.attr in FUNCTIONS
            ):
                continue
            try:
                text = _evaluated(_pattern_of(call), module, function)
                flags = _evaluated(flags_node, module, function) if (flags_node := _flags_of(call)) else 0
            except _Unknown:
                yield UnreadPattern(module.__name__, function.name, call.lineno)
            else:
                where = f"{module.__name__}:{call.lineno}"
                yield FoundPattern(where, re.compile(text, flags), call.func.attr in ANCHORED)


def _pattern_of(call: ast.Call) -> ast.expr:
    return call.args[0] if call.args else next(one.value for one in call.keywords if one.arg == "pattern")


def _flags_of(call: ast.Call) -> ast.expr | None:
    named = next((one.value for one in call.keywords if one.arg == "flags"), None)
    at = {"compile": 1, "sub": 4, "subn": 4, "split": 3}.get(call.func.attr, 2)  # ty: ignore[missing-attribute]
    return named or (call.args[at] if len(call.args) > at else None)


class _Unknown(Exception):
    pass


def _evaluated(node: ast.expr, module: ModuleType, function: ast.AST) -> Any:
    """In the module's own globals; a local name is what it was assigned, when that is all in the globals again."""
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    known = {}
    for name in names - set(vars(module)) - set(dir(__builtins__)):
        assigned = [
            one.value
            for one in ast.walk(function)
            if isinstance(one, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in one.targets)
        ]
        if len(assigned) != 1:
            raise _Unknown(name)
        known[name] = _evaluated(assigned[0], module, function)
    try:
        return eval(compile(ast.Expression(node), "pattern", "eval"), dict(vars(module)), known)
    except Exception as error:
        raise _Unknown(str(error)) from error


@contextmanager
def compiled_patterns() -> Generator[list[tuple[str, re.Pattern]]]:
    """What is compiled meanwhile, with the name of the function of ours that asked for it."""
    import sys

    seen: list[tuple[str, re.Pattern]] = []
    real: Callable[..., re.Pattern] = re._compile  # ty: ignore[missing-attribute]

    def spying(pattern: Any, flags: int) -> re.Pattern:
        compiled = real(pattern, flags)
        frame = sys._getframe(2)
        while frame.f_code.co_name.startswith("<") and frame.f_back:
            frame = frame.f_back
        seen.append((f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}", compiled))
        return compiled

    re._compile = spying  # ty: ignore[missing-attribute]
    try:
        yield seen
    finally:
        re._compile = real  # ty: ignore[missing-attribute]


# --- what is hostile to one ---------------------------------------------------------------------------------

MOST_PARTS = 40
MOST_CHARACTERS = 10
MOST_PAIRS = 60
MOST_BRANCHES = 12


def hostile_to(pattern: re.Pattern) -> Iterator[Hostile]:
    """Repeats of what the pattern is made of: its characters, pairs of them, and what it reads up to each repeat."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    parsed = _parser.parse(text, pattern.flags & ~re.DEBUG & ~(re.UNICODE if isinstance(pattern.pattern, bytes) else 0))
    parts = _Parts()
    parts.read(parsed)
    characters = list(dict.fromkeys("".join(parts.characters)))
    few = sorted(characters, key=lambda one: one.isalnum())[:MOST_CHARACTERS]
    starts = list(dict.fromkeys(islice((one for one in parts.starts if one), MOST_PARTS)))
    bodies = list(dict.fromkeys(body for _, inner in parts.repeats for body in inner if body))
    pairs = ["".join(pair) for pair in islice(permutations(few, 2), MOST_PAIRS)]
    lines = [f"{one}\n" for one in starts[:8]]
    for pump in dict.fromkeys((*characters, *starts, *bodies[:MOST_PARTS], *pairs, *lines, *COMMON_PUMPS)):
        for after in ("", "\0"):
            yield Hostile(pump, "", after)
    for start in starts:
        for pump in dict.fromkeys((*bodies[:6], *few, " ", "\n", "a", "a ")):
            yield Hostile(pump, start, "\0")
    for start, own in dict.fromkeys((start, tuple(inner)) for start, inner in parts.repeats):
        for pump in own:
            if pump and start and pump not in bodies[:6]:
                yield Hostile(pump, start, "\0")


class _Parts:
    """Samples of what a parsed pattern matches: `starts` up to (and with) each repeat, and of each of the `repeats`
    what stands before it and what it may repeat."""

    def __init__(self, choice: int = 0) -> None:
        self.characters: list[str] = []
        self.starts: list[str] = []
        self.repeats: list[tuple[str, list[str]]] = []
        self._groups: dict[int, str] = {}
        self._choice = choice  # of the branches

    def read(self, parsed: Any, before: str = "") -> str:
        """A sample of the whole sequence; notes its parts on the way."""
        sample = ""
        for kind, value in parsed:
            one = self._sample(kind, value, before + sample)
            sample += one
        self.starts.append(before + sample)
        return sample

    def _sample(self, kind: Any, value: Any, before: str) -> str:
        if kind in (kinds.LITERAL, kinds.NOT_LITERAL, kinds.IN, kinds.ANY, kinds.CATEGORY):
            samples = _characters(kind, value)
            self.characters += samples
            return samples[0] if samples else ""
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT):
            least, most, inner = value
            self.starts.append(before)
            body = self.read(inner, before)
            others = [_Parts(choice).read(inner) for choice in range(1, MOST_BRANCHES)] if not self._choice else []
            self.repeats.append((before, list(dict.fromkeys((body, *others)))))
            self.starts.append(before + body)
            return body * min(max(least, 0 if most == 1 else 1), 50)
        if kind is kinds.BRANCH:
            samples = [self.read(branch, before) for branch in value[1]]
            self.starts += [before + sample for sample in samples]
            return samples[min(self._choice, len(samples) - 1)]
        if kind is kinds.SUBPATTERN:
            self._groups[value[0]] = sample = self.read(value[-1], before)
            return sample
        if kind is kinds.ATOMIC_GROUP:
            return self.read(value, before)
        if kind in (kinds.ASSERT, kinds.ASSERT_NOT):
            self.read(value[1], before)
            return ""
        if kind is kinds.GROUPREF:
            return self._groups.get(value, "")
        return ""


_CATEGORIES = {
    kinds.CATEGORY_SPACE: [" ", "\n"],
    kinds.CATEGORY_NOT_SPACE: ["a", "!"],
    kinds.CATEGORY_DIGIT: ["0"],
    kinds.CATEGORY_NOT_DIGIT: ["a", " "],
    kinds.CATEGORY_WORD: ["a", "0"],
    kinds.CATEGORY_NOT_WORD: [" ", "!"],
}
_USUAL = "a0 \n!<x-é"


def _characters(kind: Any, value: Any) -> list[str]:
    """Some that match one place of a pattern."""
    if kind is kinds.LITERAL:
        return [chr(value)]
    if kind is kinds.ANY:
        return ["a", " "]
    if kind is kinds.CATEGORY:
        return _CATEGORIES[value]
    if kind is kinds.NOT_LITERAL:
        return [one for one in _USUAL if ord(one) != value][:3]
    if kind is kinds.RANGE:
        return [chr(value[0])]
    negated = bool(value) and value[0][0] is kinds.NEGATE
    members = [one for inner in value if inner[0] is not kinds.NEGATE for one in _characters(*inner)]
    if not negated:
        return members[:8]
    return [one for one in _USUAL if not _is_in(one, value)][:3]


def _is_in(character: str, members: Any) -> bool:
    for kind, value in members:
        if kind is kinds.LITERAL and ord(character) == value:
            return True
        if kind is kinds.RANGE and value[0] <= ord(character) <= value[1]:
            return True
        if kind is kinds.CATEGORY and character in _CATEGORIES[value]:
            return True
    return False
