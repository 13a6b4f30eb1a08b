"""The language of a response and its texts, for routes and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flask import Flask, g, request
from markupsafe import Markup, escape

from gpubranches.service.texts import FALLBACK, Texts, languages, texts_in

if TYPE_CHECKING:
    from gpubranches.service.texts import Value

COOKIE = "gpubranches-language"
"""Holds the language that was chosen on the page, none for the browser's own."""


def texts() -> Texts:
    """Return the texts in the language of the request: the one chosen on the page, else the browser's, else English."""
    if "texts" not in g:
        known = languages()
        chosen = request.cookies.get(COOKIE, "")
        g.texts = texts_in(chosen if chosen in known else request.accept_languages.best_match(known, FALLBACK))
    return cast(Texts, g.texts)


def t(key: str, /, **values: Value) -> str:
    """Return a text in the language of the request; see `Texts`."""
    return texts()(key, **values)


def t_html(key: str, /, **values: Value) -> Markup:
    """Return a text that has HTML tags, such as <kbd>; values are escaped."""
    escaped = {name: str(escape(value)) if isinstance(value, str) else value for name, value in values.items()}
    return Markup(texts()(key, **escaped))  # nosec B704  # the texts are ours, the values are escaped


def number(value: float) -> str:
    """Return a number as the language of the request writes it."""
    return texts().number(value)


def text_sources() -> list[tuple[str, Markup]]:
    """Return the files of texts that the scripts of a page read, by language, for data blocks of HTML."""
    return [(name, Markup(source)) for name, source in texts().sources]  # nosec B704  # files of this repository


def install(app: Flask) -> None:
    """Give the templates `t`, `t_html`, `language`, `text_sources` and the filter `number`."""
    functions: dict[str, Any] = {
        "t": t,
        "t_html": t_html,
        "language": lambda: texts().language,
        "text_sources": text_sources,
    }
    app.jinja_env.globals.update(functions)
    app.jinja_env.filters["number"] = number
