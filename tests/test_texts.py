"""The texts of the page: every one that is used is there, in every language, with the values that it is given."""

import ast
import re
from datetime import datetime
from pathlib import Path
from typing import get_args

import jinja2
import pytest
from fluent.runtime import FluentBundle
from fluent.syntax import FluentParser, FluentSerializer
from fluent.syntax.ast import Identifier, Junk, Message
from fluent.syntax.visitor import Visitor
from jinja2 import nodes

from gpubranches.catalog.metadata.conditions import _EXPECTED as EXPECTED
from gpubranches.catalog.metadata.conditions import KINDS
from gpubranches.core.options import MODELS
from gpubranches.retrieval.explain import Outcome
from gpubranches.service.answer import PARTS
from gpubranches.service.export import BOX_FORMATS, FORMATS
from gpubranches.service.session_store import ORDERS
from gpubranches.service.texts import Texts, languages, texts_in

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ROOT / "web/static/texts"
SCRIPTS = sorted(
    p for p in (ROOT / "web/static").glob("*.js") if not p.name.endswith(".min.js") and p.name != "texts.js"
)
NAMES = ("t", "t_html", "texts", "texts_in", "because")
_CALL = re.compile(r"\bt\(")


WORD = re.compile(r"[^\W\d_]{2,}")


def words_in(text):
    """Return the words of a text in lower case, without those in capitals, such as AND and CSV."""
    return {word.lower() for word in WORD.findall(text) if not word.isupper()}


def words_of(language):
    """Return the words of the texts of a language; keys, selectors and values are left out."""
    texts = (TEXTS / f"{language}.ftl").read_text("utf-8")
    for other in (r"^#.*$", r"^\s*[\w-]+ =|^\s+\.[\w-]+ =", r"^\s*\*?\[[^\]]*\]", r"\{[^{}]*?(\}|->)", r"</?\w+>"):
        texts = re.sub(other, " ", texts, flags=re.MULTILINE)
    return words_in(texts)


ENGLISH = words_of("en") - words_of("de")
"""Words that show that a text of the German page is not translated."""


def english_in(text):
    """Return the English words of a text that should be German."""
    return sorted(ENGLISH & words_in(text))


class Variables(Visitor):
    def __init__(self):
        self.found, self.messages = set(), set()

    def visit_VariableReference(self, node):
        self.found.add(node.id.name)

    def visit_MessageReference(self, node):
        self.messages.add(node.id.name)


class Choices(Visitor):
    def __init__(self, selector):
        self.selector, self.found = selector, set()

    def visit_SelectExpression(self, node):
        if getattr(node.selector, "id", None) is not None and node.selector.id.name == self.selector:
            self.found |= {variant.key.name for variant in node.variants}
        self.generic_visit(node)


def variables(pattern, others):
    """Return the names of the values that a text needs, also in the texts that it contains."""
    visitor = Variables()
    visitor.visit(pattern)
    return visitor.found.union(*(variables(others[name], others) for name in visitor.messages))


def patterns(language):
    """Return key -> pattern of all texts of a language; an attribute's key is message.attribute."""
    resource = FluentParser().parse((TEXTS / f"{language}.ftl").read_text("utf-8"))
    assert not [entry.content for entry in resource.body if isinstance(entry, Junk)]
    messages = [entry for entry in resource.body if isinstance(entry, Message)]
    ids = [message.id.name for message in messages]
    assert sorted(set(ids)) == sorted(ids), "a key is there twice"
    found = {message.id.name: message.value for message in messages if message.value}
    return found | {f"{m.id.name}.{a.id.name}": a.value for m in messages for a in m.attributes}


def used_in_templates():
    environment = jinja2.Environment()  # only parses
    for path in sorted((ROOT / "web/templates").glob("*.html")):
        for call in environment.parse(path.read_text("utf-8")).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in ("t", "t_html"):
                assert isinstance(call.args[0], nodes.Const), f"{path.name}:{call.lineno}: a key is written out"
                yield f"{path.name}:{call.lineno}", call.args[0].value, {value.key for value in call.kwargs}


def used_in_python():
    for path in sorted((ROOT / "gpubranches").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            function = call.func.func if isinstance(call.func, ast.Call) else call.func  # texts_in("de")("undo")
            name = getattr(function, "id", "")
            if getattr(function, "attr", "") == "because":  # an error.because("query-empty")
                name = "because"
            if name not in NAMES or (name == "texts" and not call.args):
                continue
            if name == "texts_in" and function is call.func:
                continue
            where = f"{path.name}:{call.lineno}"
            if any(value.arg is None for value in call.keywords):  # passes a key on
                continue
            assert isinstance(call.args[0], ast.Constant), f"{where}: a key is written out"
            yield where, call.args[0].value, {value.arg for value in call.keywords}


def used_in_scripts():
    for path in SCRIPTS:
        script = path.read_text("utf-8")
        for found in _CALL.finditer(script):
            where = f"{path.name}:{script[: found.start()].count(chr(10)) + 1}"
            key, *values = parts(script[found.end() :])
            assert re.fullmatch(r'"[\w.-]+"', key), f"{where}: a key is written out"
            written = parts(values[0].removeprefix("{")) if values else []
            yield where, key.strip('"'), {re.match(r"\w+", value)[0] for value in written if value}


def parts(script):
    """Return what commas separate, up to the bracket that closes what is open at the beginning."""
    found, depth = [""], 0
    for letter in script:
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(letter, 0)
        if depth < 0:
            return [part.strip() for part in found]
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    raise AssertionError("a bracket is not closed")


def used():
    return [*used_in_templates(), *used_in_python(), *used_in_scripts()]


def test_english_is_there_and_german_beside_it():
    assert languages()[0] == "en"
    assert "de" in languages()


def test_every_text_that_is_used_is_there_with_its_values():
    english = patterns("en")
    there = {key: variables(pattern, english) for key, pattern in english.items()}
    wrong = [
        (where, key, sorted(there.get(key, ())), sorted(given))
        for where, key, given in used()
        if there.get(key) != given
    ]
    assert wrong == []


def test_no_text_is_unused():
    assert set(patterns("en")) - {key for _, key, _ in used()} == set()


@pytest.mark.parametrize("language", languages())
def test_a_file_of_texts_fits_into_a_data_block_of_html(language):
    """A page carries it as it is: "</script" would end the block, "<!--" begins a comment there."""
    assert not re.search("</?script|<!--", (TEXTS / f"{language}.ftl").read_text("utf-8"), re.IGNORECASE)


@pytest.mark.parametrize("language", languages())
def test_every_language_has_the_texts_of_english_with_the_same_values_and_tags(language):
    english, other = patterns("en"), patterns(language)
    assert list(other) == list(english)

    def tags(key, pattern):
        message = Message(Identifier(key), pattern)
        return set(re.findall(r"</?\w+>", FluentSerializer().serialize_entry(message)))

    for key, pattern in english.items():
        assert variables(other[key], other) == variables(pattern, english), key
        assert tags(key, other[key]) == tags(key, pattern), key


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_shows_a_text_itself(path):
    """Texts come from t(); what else is shown is a number, a sign or what the server sent."""
    shows = r"(?:(?:textContent|innerHTML|ariaLabel|title|placeholder|alt) = |(?:say|warn|tell|showToast)\()"
    assert re.findall(rf"{shows}[\"'`][^\"'`$]*[A-Za-z]{{2}}", path.read_text("utf-8")) == []


def variants(pattern, selector):
    """Return the names that a text tells apart by a value, also inside other choices."""
    visitor = Choices(selector)
    visitor.visit(pattern)
    return visitor.found


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize(
    ("key", "selector", "names"),
    [
        ("format", "format", {*FORMATS, *BOX_FORMATS}),
        ("format.use", "format", {*FORMATS, *BOX_FORMATS}),
        ("part", "part", {*PARTS}),
        ("part.heading", "part", {*PARTS} - {"all"}),
        ("part.note", "part", {*PARTS} - {"all"}),
        ("model-name", "model", {*MODELS}),
        ("model-use", "model", {*MODELS}),
        ("session-order", "order", {*ORDERS}),
        ("column-kind", "kind", {kind.replace(" ", "-") for kind in KINDS}),
        ("filter-expected", "what", {*EXPECTED}),
        ("why-reason", "outcome", {*get_args(Outcome), "vote"}),
        ("why-votes", "outcome", {*get_args(Outcome)}),
    ],
)
def test_a_text_has_a_variant_for_each_name_that_it_is_given(language, key, selector, names):
    assert variants(patterns(language)[key], selector) == names


@pytest.mark.parametrize("path", sorted((ROOT / "web/templates").glob("*.html")), ids=lambda path: path.name)
def test_no_template_holds_a_text_itself(path):
    html = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", path.read_text("utf-8"), flags=re.DOTALL)
    told = re.findall(r'\b(?:title|aria-label|placeholder|alt)="([^"]*)"', html)
    told += re.split(r"<[^>]*>", re.sub(r"<kbd>[^<]*</kbd>", "", html))
    words = {word for text in told for word in re.findall(r"[^\W\d_]{2,}", text)}
    assert words <= {"gpubranches", "picture"}  # "picture:" begins the name of a picture in a query


def test_what_a_language_lacks_is_told_and_shown_in_english(caplog):
    bundles = texts_in("de")._bundles
    assert Texts("fr", (FluentBundle(["fr"]), *bundles))("undo") == texts_in("de")("undo")
    assert "the texts in fr have no 'undo'" in caplog.text


def test_numbers_are_written_as_the_language_writes_them():
    assert texts_in("en").number(12345.5) == "12,345.5"
    assert texts_in("de").number(12345.5) == "12.345,5"


def test_times_are_written_as_the_language_writes_them():
    at_s = datetime(2026, 3, 1, 7, 5).timestamp()
    assert texts_in("en").moment(at_s) == "Mar 1, 2026, 07:05"
    assert texts_in("de").moment(at_s) == "1. März 2026, 07:05"
