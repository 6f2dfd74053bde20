"""The reasons why packages cannot be had: from what pip wrote down to one sentence and what to do; pure.

pip's own words never reach a client, as they may hold addresses and keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sandkasten._options.packages import canonical
from sandkasten._protocol import Code
from sandkasten.local.errors import ApiError
from sandkasten.local.records import dataclass

_UNSATISFIED = re.compile(
    r"ERROR: Could not find a version that satisfies the requirement (.+?)(?: \(from .*?\))?"
    r" \(from versions: (.*)\)"
)
_CONFLICT = re.compile(
    r"ERROR: Cannot install (.+?) because these package versions have conflicting dependencies"
)
_OTHER_PYTHON = re.compile(r"ERROR: Package '([^']+)' requires a different Python")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CLIENT_ERROR = re.compile(r"Could not fetch URL \S+ ([45]\d\d) ")
_MAX_SHOWN = 200


@dataclass(frozen=True)
class PackageTrouble:
    """A reason why a set of packages cannot be had, and advice.

    Attributes:
        reason: a word for programs.
        says: one sentence that says what happened.
        remedy: one sentence that says what to do.
        package: the package's name, if it is about one.
    """

    reason: str
    says: str
    remedy: str
    package: str | None = None

    @property
    def is_about_the_index(self) -> bool:
        """True if another try may succeed, as nothing is known about the packages."""
        return self.reason == "index_unreachable"

    def error(self) -> ApiError:
        """Return it as an answer."""
        details: dict[str, Any] = {"reason": self.reason}
        if self.package is not None:
            details["package"] = self.package
        status = 507 if self.reason == "disk_full" else 400
        code = Code.INSUFFICIENT_STORAGE if status == 507 else Code.PACKAGE_FAILED
        return ApiError(status, code, f"{self.says} {self.remedy}", details=details)


def not_allowed(name: str) -> PackageTrouble:
    """Return the trouble with a package that the operator did not allow."""
    says = f"The package {name} is not on the list of packages that this daemon allows."
    return PackageTrouble("not_allowed", says, "Ask its operator, or do without.", name)


def too_large(most_bytes: int) -> PackageTrouble:
    """Return the trouble with a set that is larger than the bound."""
    says = f"These packages are larger than the {most_bytes >> 20} MiB that a set of packages may have."
    return PackageTrouble("too_large", says, "Ask for fewer, or have the operator raise package_bytes.")


def too_slow(seconds: float) -> PackageTrouble:
    """Return the trouble with an index that is too slow."""
    says = f"Fetching these packages took longer than {seconds:.0f} seconds, and was stopped."
    return PackageTrouble("timeout", says, "Try again, or ask for fewer at a time.")


def disk_full(why: str) -> PackageTrouble:
    """Return the trouble with a disk that takes no more."""
    says = f"The packages cannot be kept in the daemon's data directory ({why})."
    return PackageTrouble("disk_full", says, "Make room there, or choose another data directory.")


def from_report(failure: Mapping[str, Any], log: str, version: str, most_bytes: int) -> PackageTrouble:
    """Return the trouble from what the fetching process reported, and from pip's log.

    Args:
        failure: the report.
        log: what pip wrote down.
        version: the version of the image's Python.
        most_bytes: the bound for a set.
    """
    reason, package = failure.get("reason"), failure.get("package")
    if reason == "too_large":
        return too_large(most_bytes)
    if reason == "disk":
        return disk_full(str(failure.get("why")))
    if reason == "no_installer":
        says = "There is no pip that this daemon could fetch packages with."
        return PackageTrouble("no_installer", says, "Install it beside the daemon: pip install pip.")
    if reason == "url":
        says = f"Another package asks for {package} by a URL of its own, which is not followed."
        return PackageTrouble("url", says, "Choose another version of the package that needs it.", package)
    if reason == "wheel":
        says = f"The wheel of {package} {failure.get('why')}, so it was not unpacked."
        return PackageTrouble(
            "bad_wheel", says, "Choose another version, and do not trust this one.", package
        )
    return from_log(log, version)


def from_log(log: str, version: str) -> PackageTrouble:
    """Return the trouble from pip's log.

    Args:
        log: what pip wrote down.
        version: the version of the image's Python.
    """
    if (found := _CONFLICT.search(log)) is not None:
        names = found[1][:_MAX_SHOWN]
        says = f"These packages need versions of others that exclude each other: {names}."
        return PackageTrouble("conflict", says, "Ask for other versions of them.")
    if (found := _OTHER_PYTHON.search(log)) is not None:
        return _other_python(found[1], version)
    found = _UNSATISFIED.search(log)
    if found is None:
        if (trouble := _index_trouble(log)) is not None:
            return trouble
        says = "The packages could not be fetched, for a reason that the installer does not give."
        return PackageTrouble("failed", says, "Try again, or try other versions.")
    requirement, versions = found[1][:_MAX_SHOWN], found[2]
    named = _NAME.match(requirement)
    name = named[0] if named else requirement
    if versions != "none":
        says = f"There is no version of {name} for {requirement!r} that fits Python {version}."
        return PackageTrouble("no_version", says, f"There are: {versions[-_MAX_SHOWN:]}.", name)
    return _nothing_found(name, log, version)


def _nothing_found(name: str, log: str, version: str) -> PackageTrouble:
    of_package = [line for line in log.splitlines() if _is_about(line, name)]
    if any("requires a different Python" in line or "Requires-Python" in line for line in of_package):
        return _other_python(name, version)
    if any("none of the wheel's tags" in line for line in of_package):
        says = f"No wheel of {name} fits Python {version} on this machine."
        return PackageTrouble(
            "no_wheel", says, "Ask for another version, or use an image with another Python.", name
        )
    if any("No sources permitted" in line for line in of_package):
        says = f"{name} is only there as source, which would have to be built outside of a sandbox."
        return PackageTrouble("only_source", says, "Ask for a version that has a wheel.", name)
    if (trouble := _index_trouble(log)) is not None:
        return trouble
    says = f"The package index has no package {name}."
    return PackageTrouble("unknown", says, "Look at its spelling.", name)


def _other_python(name: str, version: str) -> PackageTrouble:
    says = f"{name} is not for Python {version}, which the image has."
    return PackageTrouble(
        "no_wheel", says, "Ask for another version, or use an image with another Python.", name
    )


def _index_trouble(log: str) -> PackageTrouble | None:
    statuses = {found for found in _CLIENT_ERROR.findall(log) if found != "404"}
    if statuses & {"401", "403", "407"} or "requires authentication" in log:
        says = "The package index asks for a key, or refuses the one that it got."
        return PackageTrouble("index_refused", says, "Have the operator look at package_index.")
    unreachable = (
        "connection error",
        "Could not fetch URL",
        "Connection refused",
        "timed out",
        "ssl certificate",
    )
    not_only_missing = re.sub(r"Could not fetch URL \S+ 404 .*", "", log)
    if statuses or any(words in not_only_missing for words in unreachable):
        says = "The package index cannot be reached."
        return PackageTrouble(
            "index_unreachable", says, "Look at the network and at package_index, then try again."
        )
    return None


def _is_about(line: str, name: str) -> bool:
    found = re.search(r"/([^/\s#?]+?)(?:-[0-9][^/\s]*)?\.(?:whl|tar\.gz|zip|tar\.bz2|tgz)", line)
    return found is not None and canonical(found[1]).startswith(canonical(name))
