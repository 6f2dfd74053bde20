"""The daemon's errors, as the wire protocol names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer that is an error: status, code and sentence."""

    def __init__(
        self, status: int, code: str, message: str, *, details: Mapping[str, Any] | None = None
    ) -> None:
        """Hold what will be sent."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        body: dict[str, Any] = {"error_code": self.code, "message": self.message}
        if self.details is not None:
            body["details"] = self.details
        return body


def invalid_request(message: str) -> ApiError:
    """A request that cannot be understood, or may not be."""
    return ApiError(400, "INVALID_REQUEST", message)


class IsolationError(Exception):
    """This machine cannot isolate code; the daemon must not start."""
