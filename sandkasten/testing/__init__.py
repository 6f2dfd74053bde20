r"""A fake daemon for tests of programs that use Sandkasten: scripted results, and every fault of a network.

Example::

    from sandkasten.testing import FakeDaemon, faults

    with FakeDaemon() as daemon:
        daemon.on_exec("make", output="error: no rule\n", exit_code=2)
        daemon.fail_next(faults.reset(), where="read")
        run_my_program(base_url=daemon.url)

It needs nothing beyond the standard library. Tests with pytest have the fixture `fake_sandkasten`.
"""

from sandkasten.testing import faults
from sandkasten.testing._fake import FakeDaemon, RecordedRequest
from sandkasten.testing._processes import FakeProcess
from sandkasten.testing._python import FakeContext
from sandkasten.testing._world import FakeSession
from sandkasten.testing.faults import Fault

__all__ = ["FakeContext", "FakeDaemon", "FakeProcess", "FakeSession", "Fault", "RecordedRequest", "faults"]
