"""The objects that the routes of one app share, and access to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from flask import Flask, current_app

from gpubranches.app.limits import Limits
from gpubranches.service.catalog_service import CatalogService
from gpubranches.service.thumbnails import Thumbnails

_EXTENSION = "gpubranches"


@dataclass(frozen=True)
class AppContext:
    """The service of the catalog, the thumbnails of its pictures, and the limits of costly requests.

    remote_pictures: whether browsers may load pictures from the addresses in the column `url`.
    """

    service: CatalogService
    thumbnails: Thumbnails
    limits: Limits = field(default_factory=Limits)
    remote_pictures: bool = False


def install(app: Flask, context: AppContext) -> None:
    """Give an app its context."""
    app.extensions[_EXTENSION] = context


def context_of(app: Flask) -> AppContext:
    """Return the context of an app."""
    return cast(AppContext, app.extensions[_EXTENSION])


def thumbnails() -> Thumbnails:
    """Return the thumbnails of the app that answers."""
    return context_of(current_app).thumbnails


def service() -> CatalogService:
    """Return the service of the app that answers."""
    return context_of(current_app).service


def remote_pictures() -> bool:
    """Return whether browsers may load pictures from other sites."""
    return context_of(current_app).remote_pictures


def limits() -> Limits:
    """Return the limits of the app that answers."""
    return context_of(current_app).limits
