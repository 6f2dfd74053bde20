# Made from sandkasten/_packageverbs.py by scripts/generate_sync.py.
# Do not edit: change that file and run the script.

"""The verbs of packages, which a session has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandkasten._protocol import Extension
from sandkasten.errors import SandkastenInputError

from .files import FileVerbs

if TYPE_CHECKING:
    from sandkasten._packages.calls import PackageInfo


class PackageVerbs(FileVerbs):
    """Installs packages of Python for one session, and lists them."""

    __slots__ = ()

    _id: str

    def install(self, *requirements: str) -> list[PackageInfo]:
        """Install packages of Python, with all that they need, without a network in the sandbox.

        The daemon fetches wheels and unpacks them; nothing of them runs outside of the sandbox. Programs that
        start afterwards find them, and so does a Python that runs already, as long as it has not imported
        another version. Packages that it has stay, in versions that fit. The second time, a set of
        packages is there at once. If the call is interrupted, the daemon goes on. Needs the extension
        `packages`.

        Args:
            requirements: names, with versions if you like: `"pandas"`, `"matplotlib>=3.9"`. URLs and paths
                are not taken.

        Returns:
            All packages that the session was given, with their versions.

        Raises:
            PackageError: there is no such package, or no wheel of it that fits, or the daemon does not allow
                it; the text says which, and `details` has the reason as one word.
            InsufficientStorageError: the daemon's disk is full.
            ExtensionMissingError: a daemon that installs none.
            SandkastenInputError: no requirement, or one that is not a name with versions.
            SandkastenError: any other failure.
        """
        from sandkasten._packages import calls  # noqa: PLC0415  (few install packages)

        if not requirements:
            raise SandkastenInputError("There is nothing to install.", "Pass names, as install('pandas').")
        call = calls.install(self._id, requirements)
        self._connection.require(Extension.PACKAGES)
        return self._connection.call(call)

    def packages(self) -> list[PackageInfo]:
        """List the packages that the session was given; not those of its image.

        Raises:
            ExtensionMissingError: a daemon that installs none.
            SandkastenError: any other failure.
        """
        from sandkasten._packages import calls  # noqa: PLC0415

        self._connection.require(Extension.PACKAGES)
        return self._connection.call(calls.listed(self._id))
