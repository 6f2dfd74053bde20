"""A decoder of JSON that lets others go on between two values, and that has a bound for their number.

While `json` works, nothing else of the daemon does. Many small values take thirty times their bytes in
memory, and seconds.
"""

from __future__ import annotations

import json
import json.decoder
import json.scanner
from typing import Any

# The forms of the standard library's decoder that are written in Python; nothing else there has a type.
_decoder: Any = json.decoder
_scanner: Any = json.scanner


class TooManyValuesError(ValueError):
    """There are more values than anybody needs."""


class FewValues(json.JSONDecoder):
    """The decoder of `json` in the form that is written in Python, as far as values are concerned."""

    def __init__(self, most_values: int) -> None:
        """Decode at most so many values."""
        super().__init__()
        self._left = most_values
        self.parse_object: Any = self._parse_object
        self.parse_array: Any = self._parse_array
        self.scan_once: Any = _scanner.py_make_scanner(self)

    def _parse_object(self, start: Any, strict: bool, scan: Any, *more: Any) -> Any:
        return _decoder.JSONObject(start, strict, self._counting(scan), *more)

    def _parse_array(self, start: Any, scan: Any) -> Any:
        return _decoder.JSONArray(start, self._counting(scan))

    def _counting(self, scan: Any) -> Any:
        def count_and_scan(text: str, at: int) -> Any:
            self._left -= 1
            if self._left < 0:
                raise TooManyValuesError
            return scan(text, at)

        return count_and_scan
