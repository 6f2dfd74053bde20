"""The sentences for packages that cannot be had, from what pip writes down."""

from __future__ import annotations

import pytest

from sandkasten.local.packages.failures import from_log, from_report

URL = "https://somebody:the-key@index.example/simple"
NONE = "ERROR: Could not find a version that satisfies the requirement {0} (from versions: none)\n"
TAGS = "Skipping link: none of the wheel's tags (cp37-cp37m-win_amd64) are compatible (run pip debug): "


@pytest.mark.parametrize(
    ("log", "reason", "says"),
    [
        (
            f"Could not fetch URL {URL}/nosuch/: 404 Client Error: Not Found for url: {URL} - skipping\n"
            + NONE.format("nosuch"),
            "unknown",
            "The package index has no package nosuch.",
        ),
        (
            f"{TAGS}{URL}/Else_Where/Else_Where-1.0-cp37-cp37m-win_amd64.whl\n"
            + NONE.format("else.where>=1"),
            "no_wheel",
            "No wheel of else.where fits Python 3.11",
        ),
        (
            f"{TAGS}{URL}/another/another-1.0-cp37-cp37m-win_amd64.whl\n" + NONE.format("nosuch"),
            "unknown",
            "no package nosuch",
        ),
        (
            f"Skipping link: No sources permitted for src: {URL}/src/src-1.0.tar.gz\n" + NONE.format("src"),
            "only_source",
            "src is only there as source",
        ),
        (
            f"Link requires a different Python (3.11.2 not in: '<3.5'): {URL}/old/old-1.0-py3-none-any.whl\n"
            + NONE.format("old"),
            "no_wheel",
            "old is not for Python 3.11",
        ),
        (
            "ERROR: Package 'old' requires a different Python: 3.11.0 not in '<3.5'\n",
            "no_wheel",
            "old is not",
        ),
        (
            NONE.format("base==9 (from x)").replace("none", "1, 2"),
            "no_version",
            "'base==9' that fits Python 3.11. There are: 1, 2.",
        ),
        (
            "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting "
            "dependencies.\n",
            "conflict",
            "exclude each other: a==1 and b==2.",
        ),
        (
            f"Could not fetch URL {URL}/x/: connection error: HTTPSConnectionPool(host='index.example'): Max "
            "retries - skipping\n" + NONE.format("x"),
            "index_unreachable",
            "The package index cannot be reached.",
        ),
        (
            f"Could not fetch URL {URL}/x/: 503 Server Error: Busy for url: {URL}/x/ - skipping\n"
            + NONE.format("x"),
            "index_unreachable",
            "cannot be reached",
        ),
        (
            f"Could not fetch URL {URL}/x/: 403 Client Error: Forbidden for url: {URL} - skipping\n"
            + NONE.format("x"),
            "index_refused",
            "refuses the one that it got",
        ),
        (
            f"something about {URL} that nobody knows\n",
            "failed",
            "for a reason that the installer does not give",
        ),
    ],
)
def test_pips_log_becomes_one_sentence_and_advice(log: str, reason: str, says: str) -> None:
    trouble = from_log(log, "3.11")
    error = trouble.error()
    assert (trouble.reason, error.status, error.code) == (reason, 400, "PACKAGE_FAILED")
    assert says in error.message
    assert error.message.count(". ") >= 1
    assert "the-key" not in error.message


def test_the_report_of_the_process_that_fetches_becomes_one_too() -> None:
    def reported(**failure: object) -> tuple[str, int]:
        trouble = from_report(failure, "", "3.11", 4 << 20)
        return trouble.reason, trouble.error().status

    assert reported(reason="too_large") == ("too_large", 400)
    assert reported(reason="disk", why="No space left on device", errno=28) == ("disk_full", 507)
    assert reported(reason="no_installer") == ("no_installer", 400)
    assert reported(reason="url", package="x") == ("url", 400)
    assert reported(reason="wheel", package="x", why="is damaged") == ("bad_wheel", 400)
    assert reported() == ("failed", 400)
