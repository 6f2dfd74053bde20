"""The decisions of a cluster, without Ray: ways, headers, leases, what is cleaned up, and answers of many."""

from __future__ import annotations

import pytest

from sandkasten.local.errors import ApiError
from sandkasten.ray.rules import leases, merging, routing
from sandkasten.ray.rules.reconciling import Lease, Patience, Plan, compare

ID = "n1-1a2b3c4d-5e6"


@pytest.mark.parametrize(
    ("session_id", "tag"),
    [
        (ID, "n1"),
        ("nab12cd34-1a2b3c4d-5e6", "nab12cd34"),
        ("1a2b3c4d-5e6", None),
        ("n1-1a2b3c4d-5e6x", None),
        ("n1-1A2b3c4d-5e6", None),
        ("N1-1a2b3c4d-5e6", None),
        ("n1/-1a2b3c4d-5e6", None),
        ("n1-x-1a2b3c4d-5e6", None),
        ("n1-1a2b3c4d-5e6\n", None),
        ("bob", None),
        ("", None),
    ],
)
def test_the_id_names_the_node(session_id: str, tag: str | None) -> None:
    assert routing.tag_of_session(session_id) == tag


def test_a_nodes_tag_is_one_that_ids_can_have() -> None:
    tag = routing.tag_of_node("4833382fa8d28fce13c7989a")
    assert routing.tag_of_session(f"{tag}-1a2b3c4d-5e6") == tag == "n4833382f"
    with pytest.raises(ValueError, match="not the id"):
        routing.tag_of_node("../x")


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/sessions/../node", b"/v1/sessions/x/%2e%2e/node", b"//v1/sessions", b"/v1//sessions",
        b"/v1/./x",
        b"/v1/sessions/x%2fexec", b"/v1/sessions/x\\exec", b"/v1/sessions/\xff", b"/v1/sessions/", b"", b"x",
        b"http://other/v1", b"/v1/sessions/x@other", b"/v1/sessions/...", b"/v1/x y",
    ],
)  # fmt: skip
def test_a_path_with_two_readings_is_refused(path: bytes) -> None:
    with pytest.raises(ApiError, match="Send the path as it is"):
        routing.target_of(path, b"")


def test_a_plain_path_and_its_query_go_on_as_they_came() -> None:
    query = b"path=a%2F..%2Fb&x=%00"
    assert (
        routing.target_of(b"/v1/sessions/n1-a/fs/raw", query)
        == "/v1/sessions/n1-a/fs/raw?path=a%2F..%2Fb&x=%00"
    )
    assert routing.target_of(b"/v1/sessions/n1-a/python/a.b~c", b"").endswith("/a.b~c")


def test_only_known_headers_pass_and_the_key_is_the_clusters() -> None:
    headers = [
        (b"Authorization", b"Bearer client"),
        (b"content-type", b"application/json"),
        (b"x-keep-alive-ms", b"20"),
        (b"last-event-id", b"7"),
        (b"traceparent", b"00-1-2-01"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"authorization"),
        (b"host", b"elsewhere"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"cookie", b"a=b"),
        (b"expect", b"100-continue"),
    ]
    assert routing.forwarded(headers, "cluster") == {
        "authorization": "Bearer cluster",
        "content-type": "application/json",
        "x-keep-alive-ms": "20",
        "last-event-id": "7",
        "traceparent": "00-1-2-01",
    }
    assert "content-type" not in routing.forwarded(headers, "cluster", has_body=False)


@pytest.mark.parametrize("name", [b"content-length", b"range", b"Idempotency-Key", b"x-file-mode"])
def test_a_header_that_comes_twice_is_refused(name: bytes) -> None:
    with pytest.raises(ApiError, match="more than one header"):
        routing.forwarded([(name, b"1"), (name.lower(), b"2")], "cluster")


def test_headers_of_a_connection_do_not_return() -> None:
    headers = [
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"2"),
        (b"ETag", b"x"),
        (b"Connection", b"close, X-Own"),
        (b"X-Own", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Request-ID", b"theirs"),
        (b"Date", b"today"),
    ]
    kept = [(b"content-type", b"text/plain"), (b"content-length", b"2"), (b"etag", b"x")]
    assert routing.returned(headers) == kept


# --- leases


def test_a_repeated_request_has_the_same_lease_and_others_have_their_own() -> None:
    key = "k" * 20
    assert leases.wanted({}, key).name == leases.wanted({}, key).name
    assert leases.wanted({}, None).name != leases.wanted({}, None).name
    assert leases.wanted({"name": "bob"}, key).name == leases.name_of("bob") != leases.key_of("bob")
    assert all(map(leases.is_lease, (leases.name_of("a"), leases.key_of("a"), leases.wanted({}, None).name)))
    assert not leases.is_lease("sandkasten")
    assert not leases.is_lease("somebody's")


def test_limits_are_what_ray_sets_aside() -> None:
    limits = {"cpus": 0.5, "memory_bytes": "1g", "processes": 9}
    assert leases.resources_of(limits) == {"sandkasten": 1, "CPU": 0.5, "memory": 2**30}
    assert leases.resources_of(None) == {"sandkasten": 1}
    assert leases.resources_of({"cpus": "unlimited"}) == {"sandkasten": 1}


@pytest.mark.parametrize(
    "body",
    [
        {"name": ID},
        {"name": "a b"},
        {"name": 3},
        {"workspace_id": "../x"},
        {"workspace_id": 7},
        {"limits": [1]},
        {"limits": {"cpus": -1}},
        {"limits": {"cpus": "many"}},
        {"limits": {"colour": 1}},
    ],
)
def test_requests_that_make_no_sense_take_no_lease(body: dict[str, object]) -> None:
    with pytest.raises(ApiError) as raised:
        leases.wanted(body, None)
    assert raised.value.status == 400


def test_nobody_chooses_the_lease_that_a_session_notes() -> None:
    body = leases.with_lease({"image": "base", "labels": {"a": "b", leases.LABEL: "another's"}}, "mine")
    assert body == {"image": "base", "labels": {"a": "b", leases.LABEL: "mine"}}
    assert leases.lease_of(body) == "mine"
    assert leases.lease_of({"labels": None}) is None
    assert leases.lease_of({"labels": {leases.LABEL: 3}}) is None
    with pytest.raises(ApiError):
        leases.with_lease({"labels": "x"}, "mine")


def test_no_room_says_whether_waiting_would_help() -> None:
    full = leases.no_room({"sandkasten": 1}, 10, is_infeasible=False)
    assert (full.status, full.code) == (429, "CAPACITY_EXCEEDED")
    never = leases.no_room({"CPU": 900, "sandkasten": 1}, 10, is_infeasible=True)
    assert (never.status, never.code) == (400, "INVALID_REQUEST")
    assert "CPU: 900" in never.message


# --- reconciling

PATIENCE = Patience(pending=20, unclaimed=8, orphaned=8)


def rounds(*steps: tuple[float, list[Lease], dict[str, list[str]]]) -> Plan:
    """Compare one after the other, and return the last plan."""
    plan = Plan()
    for now, found, claims in steps:
        plan = compare(found, claims, plan, now, PATIENCE)
    return plan


def test_a_lease_that_a_session_claims_stays() -> None:
    there = [Lease("a", "x")]
    assert rounds((0, there, {"x": ["a"]}), (1000, there, {"x": ["a"]})).remove == []


def test_a_lease_that_nobody_claims_is_removed_after_a_while() -> None:
    there = [Lease("a", "x")]
    assert rounds((0, there, {"x": []}), (7, there, {"x": []})).remove == []
    assert rounds((0, there, {"x": []}), (9, there, {"x": []})).remove == ["a"]
    # Its time begins when its session ends.
    assert rounds((0, there, {"x": []}), (7, there, {"x": ["a"]}), (14, there, {"x": []})).remove == []


def test_a_lease_that_moved_is_removed_at_once() -> None:
    moved = [Lease("a", "y")]
    assert rounds((0, [Lease("a", "x")], {"x": ["a"]}), (1, moved, {"y": []})).remove == ["a"]
    assert rounds((0, [Lease("a", "x")], {"x": ["a"]}), (1, [Lease("a", "")], {})).remove == ["a"]


def test_a_lease_on_a_node_that_does_not_answer_stays() -> None:
    there = [Lease("a", "x")]
    assert rounds((0, there, {}), (100, there, {}), (200, there, {})).remove == []


def test_a_lease_that_waits_for_room_has_longer_and_then_its_time_begins_anew() -> None:
    waiting, placed = [Lease("a", "")], [Lease("a", "x")]
    assert rounds((0, waiting, {}), (19, waiting, {})).remove == []
    assert rounds((0, waiting, {}), (21, waiting, {})).remove == ["a"]
    assert rounds((0, waiting, {}), (19, placed, {"x": []}), (26, placed, {"x": []})).remove == []
    assert rounds((0, waiting, {}), (19, placed, {"x": []}), (28, placed, {"x": []})).remove == ["a"]


def test_a_session_without_its_lease_is_ended_after_a_while() -> None:
    assert rounds((0, [], {"x": ["a"]}), (7, [], {"x": ["a"]})).end == {}
    assert rounds((0, [], {"x": ["a"]}), (9, [], {"x": ["a"]})).end == {"x": ["a"]}


# --- answers of many

METRICS = """# HELP s_total Sessions.
# TYPE s_total counter
s_total{source="pool"} 1
# TYPE h histogram
h_bucket{le="1"} 2
h_sum 0.5
h_count 2
"""


def test_metrics_have_their_nodes_tag_and_each_family_stands_together() -> None:
    assert merging.merged_metrics({"n2": METRICS, "n1": METRICS}) == (
        "# HELP s_total Sessions.\n# TYPE s_total counter\n"
        's_total{node="n1",source="pool"} 1\ns_total{node="n2",source="pool"} 1\n'
        "# TYPE h histogram\n"
        'h_bucket{node="n1",le="1"} 2\nh_sum{node="n1"} 0.5\nh_count{node="n1"} 2\n'
        'h_bucket{node="n2",le="1"} 2\nh_sum{node="n2"} 0.5\nh_count{node="n2"} 2\n'
    )


def test_a_gateway_can_do_what_all_its_nodes_can() -> None:
    answers = [{"extensions": ["a", "b", "c"]}, {"extensions": ["c", "a"]}, {"extensions": ["x", "a", "c"]}]
    assert merging.merged_health(answers, "s", "1")["extensions"] == ["a", "c"]
    assert merging.merged_health([{}, *answers], "s", "1")["extensions"] == []


def test_a_workspace_that_all_nodes_share_is_listed_once() -> None:
    one, two = {"id": "aa"}, {"id": "bb"}
    assert merging.merged_workspaces([{"workspaces": [two, one]}, {"workspaces": [one]}]) == {
        "workspaces": [one, two]
    }
