"""Python that remembers in one session, in plain HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from tests.local.processes.beside import Beside


class Remembering(Beside):
    """A session whose Python is asked for."""

    def ask_python(self, code: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """Run code, whatever comes of it."""
        return self.client.post(f"{self.session_url}/python", json={"code": code, **body}, headers=headers)

    def python(self, code: str, **body: Any) -> dict[str, Any]:
        """Run code to a result."""
        answer = self.ask_python(code, **body)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def value(self, code: str, **body: Any) -> str | None:
        """Run code, and return the last expression's value."""
        found = [each["data"]["text/plain"] for each in self.python(code, **body)["results"]]
        return found[-1] if found else None
