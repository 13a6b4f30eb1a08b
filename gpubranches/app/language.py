"""The language, texts and theme of a response, for routes and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flask import Flask, g, request
from markupsafe import Markup, escape
from werkzeug.exceptions import HTTPException

from gpubranches.errors import GpuBranchesError
from gpubranches.service.texts import FALLBACK, Texts, languages, texts_in

if TYPE_CHECKING:
    from gpubranches.service.texts import Value

COOKIES = {"language": "gpubranches-language", "theme": "gpubranches-theme"}
"""Cookies with the choices on the page. Without them, the browser's language and the system's theme apply."""
THEMES = ("light", "dark")


def texts() -> Texts:
    """Return the texts in the language of the request: the one chosen on the page, else the browser's, else English."""
    if "texts" not in g:
        g.texts = texts_in(chosen_language() or _language_of_browser())
    return cast(Texts, g.texts)


def chosen_language() -> str:
    """Return the language that was chosen on the page, "" for the browser's own."""
    return _chosen("language", languages())


def theme() -> str:
    """Return the theme that was chosen on the page, one of THEMES, "" for the system's own."""
    return _chosen("theme", THEMES)


def _language_of_browser() -> str:
    """Return the first language of Accept-Language that is available, for de-AT also de; else English.

    werkzeug's `best_match` prefers an exact name to an earlier language: en for "de-AT, en".
    """
    known = languages()
    for tag, quality in request.accept_languages:  # the preferred ones first
        for name in (tag, tag.partition("-")[0]):
            if quality and name in known:
                return name
    return FALLBACK


def _chosen(what: str, known: tuple[str, ...]) -> str:
    value = request.cookies.get(COOKIES[what], "")
    return value if value in known else ""


def t(key: str, /, **values: Value) -> str:
    """Return a text in the language of the request; see `Texts`."""
    return texts()(key, **values)


class Told(NamedTuple):
    """An error for people. text: in the language of the request; detail: its English message, or ""."""

    text: str
    detail: str = ""


def told(error: Exception) -> Told:
    """Return an error in the language of the request.

    An error with a `reason` has a text of its own in each language. Others are rare or meant for who runs the server:
    their English message follows what their HTTP status says in general.
    """
    if isinstance(error, GpuBranchesError):
        if error.reason:
            return Told(t(error.reason, **error.values))
        status, message = error.http_status, str(error)
    elif isinstance(error, HTTPException):
        status, message = error.code or 500, error.description or error.name
        if message == getattr(type(error), "description", None):  # werkzeug's own words
            return Told(t("error.status", status=status))
    else:
        return Told(t("error.failed"))
    return Told(message) if texts().language == FALLBACK else Told(t("error.status", status=status), message)


def t_html(key: str, /, **values: Value) -> Markup:
    """Return a text that has HTML tags, such as <kbd>; values are escaped."""
    escaped = {name: str(escape(value)) if isinstance(value, str) else value for name, value in values.items()}
    return Markup(texts()(key, **escaped))  # nosec B704  # the texts are ours, the values are escaped


def number(value: float) -> str:
    """Return a number as the language of the request writes it."""
    return texts().number(value)


def sentence(text: str) -> str:
    """Return a text with a capital first letter."""
    return text[:1].upper() + text[1:]


def text_sources() -> list[tuple[str, Markup]]:
    """Return the files of texts that the scripts of a page read, by language, for data blocks of HTML."""
    return [(name, Markup(source)) for name, source in texts().sources]  # nosec B704  # files of this repository


def install(app: Flask) -> None:
    """Give the templates the functions of this module and the filters `number` and `sentence`."""
    functions: dict[str, Any] = {
        "t": t,
        "t_html": t_html,
        "language": lambda: texts().language,
        "languages": lambda: [(name, texts_in(name)("language-name")) for name in languages()],
        "chosen_language": chosen_language,
        "text_sources": text_sources,
        "theme": theme,
        "cookies": COOKIES,
    }
    app.jinja_env.globals.update(functions)
    app.jinja_env.filters.update({"number": number, "sentence": sentence})
