"""The errors that users can meet. Every message says what was expected, what came, and what to do."""

from __future__ import annotations

from typing import Self


def printable(text: str, keep: str = "") -> str:
    """Return an untrusted text with all characters escaped that would break a line or control the terminal.

    keep: characters that are not escaped.
    """
    return "".join(
        letter
        if letter.isprintable() or letter in keep
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without a full stop; the name of its class for an empty message."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__


class GpuBranchesError(Exception):
    """Base of all errors raised on purpose; doors turn it into an exit code or an HTTP status.

    A message is one line, whatever external names and values it contains.
    """

    exit_code = 1
    http_status = 500
    retry_after_s: int | None = None
    """Whole seconds after which the same call may succeed, or None if unknown."""
    reason = ""
    """The key of the page's text about this error, "" where the page shows the text of its status."""
    values: dict[str, str | int | float]
    """What that text names."""

    def because(self, reason: str, /, **values: str | int | float) -> Self:
        """Return this error with its `reason` and `values`, so that the page can show it in each language."""
        self.reason, self.values = reason, values
        return self

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(GpuBranchesError, ValueError):
    """The request is wrong: an unknown id, a wrong option, a text without an embedder."""

    exit_code = 2
    http_status = 422


class UnknownNameError(UsageError):
    """A text is not among the names of a vocabulary.

    text: that text; known: how many names there are; suggestions: names that are near to it, nearest first; meant: the
    one that is so near that it is probably meant, "" for none.
    """

    def __init__(self, message: str, text: str, known: int, suggestions: tuple[str, ...] = (), meant: str = ""):
        super().__init__(message)
        self.because("unknown-name", text=text[:80], count=known)
        self.text = text
        self.known = known
        self.suggestions = suggestions
        self.meant = meant


class ArrayError(UsageError):
    """An array has the wrong dtype, shape, order or values."""


class NotFittedError(UsageError):
    """An estimator was used before `fit`."""


class LabelError(UsageError):
    """Marks cannot be used: none positive, unknown or deleted items."""


class SessionGoneError(UsageError):
    """A session was deleted while a page still showed it."""

    http_status = 410


class TooManyError(UsageError):
    """A session requests expensive work too often; retry_after_s: whole seconds after which it may try again."""

    http_status = 429
    retry_after_s: int

    def __init__(self, message: str, retry_after_s: int):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ConflictError(UsageError):
    """The name of a call, which makes repetitions count once, was used for another call before."""

    http_status = 409


class CancelledError(UsageError):
    """A user cancelled a long computation; nothing was changed."""

    http_status = 409


class DataError(GpuBranchesError):
    """The data on disk cannot be used."""

    exit_code = 3
    http_status = 500


class UnavailableError(DataError):
    """Something cannot be read or written now, such as on a full disk; the same call may succeed later."""

    http_status = 503
    retry_after_s = 5


class WaitError(UnavailableError):
    """Another process or request holds a needed resource; the same call succeeds after it is released."""

    retry_after_s = 2


class CatalogNotFoundError(DataError):
    """There is no catalog at the given path."""

    http_status = 404


class CatalogFormatError(DataError):
    """A file of the catalog, or of the input, is damaged or not of the expected format."""


class CatalogIndexError(DataError):
    """The index of a catalog is missing, stale or damaged; the message names the command that builds it."""


class SpaceMismatchError(DataError):
    """Two things from different embedding spaces were put together."""


class DeviceError(GpuBranchesError):
    """The machine cannot do what was requested."""

    exit_code = 4
    http_status = 503


class StoreError(DeviceError):
    """A store of remote files does not answer or refuses access; the same call may succeed later."""


class BackendUnavailableError(DeviceError):
    """A backend or an optional package is missing; the message names the extra to install."""


def missing_package(
    what: str, package: str, *extras: str, error: object = None, instead: str = ""
) -> BackendUnavailableError:
    """Return the error of a package that `what` needs and that cannot be imported.

    extras: of gpubranches that bring it, the first is recommended; none if gpubranches itself requires it. error: what
    the import raised, or its text; instead: what else the user can do.
    """
    install = f"pip install 'gpubranches[{extras[0]}]'" if extras else "pip install gpubranches"
    install += "".join(f" or [{extra}]" for extra in extras[1:])
    reason = "" if error is None else f" ({error})"
    return BackendUnavailableError(f"{what} needs {package}{reason}; {install}{f', or {instead}' if instead else ''}")


class ShardError(DeviceError):
    """Shards do not form one catalog, or the machine of a shard does not answer."""


class KernelCompileError(DeviceError):
    """A kernel did not compile; the message contains the compiler's log, over several lines."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class DeviceMemoryError(DeviceError):
    """The device has not enough memory; the message names needed and free bytes."""
