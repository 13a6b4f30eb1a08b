"""The texts of the page in each language, one file per language, in the format of Project Fluent (projectfluent.org).

The server and the scripts of the page read the same files, `web/static/texts/LANGUAGE.ftl`. A new file there is a new
language.
"""

from __future__ import annotations

import logging
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gpubranches.core import assets

if TYPE_CHECKING:
    from fluent.runtime import FluentBundle
    from fluent.runtime.resolver import Pattern

    Value = str | int | float

FALLBACK = "en"
"""The language that has every text."""
_KEPT = 4096
"""Number of formatted texts that are cached for each language; formatting one takes a tenth of a millisecond."""

_log = logging.getLogger(__name__)


class Texts:
    """The texts in one language, and in English where that language lacks one. Make it by `texts_in`."""

    def __init__(self, language: str, bundles: tuple[FluentBundle, ...]):
        self.language = language
        self._bundles = bundles
        self._filled_in = lru_cache(_KEPT)(self._format)

    def __call__(self, key: str, /, **values: Value) -> str:
        """Return the text `key` with its values filled in. "undo.title" is the attribute `title` of the message `undo`.

        A text that is missing, or lacks a value, is logged as an error; it is shown in English, or with a gap.
        """
        return self._filled_in(key, **values)

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """The languages that it takes texts from, in this order, each with the content of its file."""
        return tuple((bundle.locales[0], _source(bundle.locales[0])) for bundle in self._bundles)

    def number(self, value: float) -> str:
        """Return a number as this language writes it."""
        from babel.numbers import format_decimal

        return format_decimal(value, locale=self.language.replace("-", "_"))

    def moment(self, at_s: float) -> str:
        """Return a time, in seconds since 1970, as date and time in this machine's zone."""
        from babel.dates import format_skeleton, get_datetime_format

        at, locale = datetime.fromtimestamp(at_s), self.language.replace("-", "_")
        date, time = (format_skeleton(skeleton, at, locale=locale) for skeleton in ("yMMMd", "Hm"))
        return str(get_datetime_format("medium", locale=locale)).format(time, date)

    def _format(self, key: str, /, **values: Value) -> str:
        for bundle in self._bundles:
            pattern = _pattern(bundle, key)
            if pattern is None:
                _log.error("the texts in %s have no %r", bundle.locales[0], key)
                continue
            text, errors = bundle.format_pattern(pattern, values)
            for error in errors:
                _log.error("text %r in %s: %s", key, bundle.locales[0], error)
            return str(text)
        return key


def languages() -> tuple[str, ...]:
    """Return the languages that have a file, English first."""
    found = {path.stem for path in _folder().glob("*.ftl")}
    return (FALLBACK, *sorted(found - {FALLBACK}))


@cache
def texts_in(language: str = FALLBACK) -> Texts:
    """Return the texts in one of `languages()`."""
    return Texts(language, tuple(_bundle(name) for name in dict.fromkeys((language, FALLBACK))))


@cache
def _bundle(language: str) -> FluentBundle:
    from fluent.runtime import FluentBundle, FluentResource

    bundle = FluentBundle([language], use_isolating=False)
    bundle.add_resource(FluentResource(_source(language)))
    return bundle


@cache
def _source(language: str) -> str:
    return (_folder() / f"{language}.ftl").read_text("utf-8")


def _pattern(bundle: FluentBundle, key: str) -> Pattern | None:
    name, _, attribute = key.partition(".")
    if not bundle.has_message(name):
        return None
    message = bundle.get_message(name)
    return message.attributes.get(attribute) if attribute else message.value


def _folder() -> Path:
    return assets.folder("web") / "static" / "texts"
