# The parts of the package that sandkasten/integrations/anthropic uses; it is no part of `dev`.
# The signatures are those of anthropic 2.14.0.

from collections.abc import Awaitable, Callable
from typing import Any

def beta_async_tool(
    *, name: str, input_schema: type[Any]
) -> Callable[[Callable[..., Awaitable[Any]]], Any]: ...
