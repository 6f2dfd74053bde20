# The parts of AutoGen that sandkasten/integrations/autogen uses; it is no part of `dev`.
# The signatures are those of autogen-core 0.7.5.

from asyncio import Future
from typing import Any

class CancellationToken:
    def link_future(self, future: Future[Any]) -> Future[Any]: ...
