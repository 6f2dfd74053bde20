"""The choice of failures that are worth another attempt, and when; stamina does the waiting.

A call is repeated only where that can do no harm:

    what failed                                         repeated
    --------------------------------------------------  -----------------------------------------
    the connection was never made                       every call: nothing was sent
    the connection was lost before the answer           what is idempotent, or carries a key that
                                                        the daemon knows repetitions by
    408, 429, 502, 503; 504 without an error_code       the same, after `Retry-After` if there is one
    a time limit passed                                 nothing: the call had its time
    any other answer                                    nothing: it would be the same again

(A 504 with an error_code is a command's own timeout.)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from attrs import frozen

from sandkasten._wire import Call
from sandkasten.errors import (
    LocalDaemonError,
    SandkastenAPIError,
    SandkastenConnectionError,
    SandkastenTimeoutError,
)

if TYPE_CHECKING:
    # Imported late below: who meets no failure does not pay for it.
    from stamina._core import _RetryContextIterator as Attempts  # pyright: ignore[reportPrivateUsage]

log = logging.getLogger("sandkasten")
_SILENT = logging.NullHandler()

_TRANSIENT_STATUSES = {408, 429, 502, 503}
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


@frozen(eq=False, repr=False)
class RetryPolicy:
    """The number of attempts of a client, and the time that they may take.

    Attributes:
        max_retries: how many attempts there may be after the first; 0 makes none.
        budget_seconds: for how long after the first failure another attempt may begin.
    """

    max_retries: int
    budget_seconds: float

    def pause(self, error: Exception, call: Call[Any]) -> bool | float:
        """Decide on another attempt: False for none, True after the usual pause, or after so many seconds."""
        if self.max_retries == 0 or isinstance(error, SandkastenTimeoutError | LocalDaemonError):
            return False
        if isinstance(error, SandkastenConnectionError):
            return error.never_sent or call.is_repeatable
        if not (call.is_repeatable and isinstance(error, SandkastenAPIError) and _is_transient(error)):
            return False
        asked_seconds = error.retry_after_seconds
        if not asked_seconds:
            return True
        return asked_seconds if asked_seconds <= self.budget_seconds else False

    def attempts(self, call: Call[Any]) -> Attempts:
        """Give the attempts after the first, to be iterated over; the first of these must fail as that did.

        So that the pause comes before the second of them, which is the call's second.
        """
        import stamina  # noqa: PLC0415

        # What it logs by itself is for those who set up logging, and not for a script's standard error.
        logging.getLogger("stamina").addHandler(_SILENT)

        def on(error: Exception) -> bool | float:
            pause = self.pause(error, call)
            if pause:
                log.info("%s failed and is tried again: %s", call.route, type(error).__name__)
            return pause

        return stamina.retry_context(
            on=on,
            attempts=self.max_retries + 1,
            timeout=self.budget_seconds,
            wait_initial=_FIRST_PAUSE_SECONDS,
            wait_max=_LONGEST_PAUSE_SECONDS,
            wait_jitter=_FIRST_PAUSE_SECONDS,
        )


def _is_transient(error: SandkastenAPIError) -> bool:
    return error.status_code in _TRANSIENT_STATUSES or (error.status_code == 504 and error.error_code is None)
