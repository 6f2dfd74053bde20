"""The Go daemon's prompts: its shell prints one before and one behind the output of each command; pure."""

from __future__ import annotations

_ENDS = ("$ ", "# ")


def without_prompts(output: str) -> str:
    """Return what a command printed, without the prompts around it.

    A prompt is the first line and, once more, the end of the output. Any other output stays as it is.
    """
    prompt, newline, rest = output.partition("\n")
    if newline and prompt.endswith(_ENDS) and rest.endswith(f"{prompt}\n"):
        return rest[: -len(prompt) - 1]
    return output
