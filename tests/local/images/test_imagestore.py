"""The store of images: what it takes, what hostile archives get out of it, and real sandboxes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandkasten.local.errors import ApiError
from sandkasten.local.files.newfile import StagingIn
from sandkasten.local.files.tree import Tree
from sandkasten.local.identity import Identity, popen_identity
from sandkasten.local.images import built_in
from sandkasten.local.images.archives import Limits
from sandkasten.local.images.store import BUILT_IN, ImageStore
from sandkasten.local.isolation import bubblewrap, bwrap_binary, seccomp
from sandkasten.local.isolation.etc import OWN_ETC, Etc
from sandkasten.local.isolation.policy import SandboxPolicy

IDENTITY = Identity.of_this_process()
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
KIB = 1024


@dataclass
class M:
    """A member of an archive."""

    name: str
    content: bytes = b""
    type: bytes = tarfile.REGTYPE
    to: str = ""
    mode: int = 0o644
    size: int | None = None
    pax: dict[str, str] | None = None


def link(name: str, to: str) -> M:
    return M(name, type=tarfile.SYMTYPE, to=to)


def hard(name: str, to: str) -> M:
    return M(name, type=tarfile.LNKTYPE, to=to)


def folder(name: str, mode: int = 0o755) -> M:
    return M(name, type=tarfile.DIRTYPE, mode=mode)


BASH = M("bin/bash", b"#!", mode=0o755)


def tar(*members: M) -> bytes:
    archive = b""
    for member in members:
        info = tarfile.TarInfo(member.name)
        info.type, info.linkname, info.mode = member.type, member.to, member.mode
        info.size = len(member.content) if member.size is None else member.size
        info.pax_headers = member.pax or {}
        archive += info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        archive += member.content + bytes(-len(member.content) % tarfile.BLOCKSIZE)
    return archive + bytes(2 * tarfile.BLOCKSIZE)


def tar_of(files: dict[str, bytes]) -> bytes:
    return tar(*(M(name, content) for name, content in files.items()))


def docker_save(*layers: bytes, names: list[str] | None = None) -> bytes:
    """As `docker save` did before it knew OCI layouts: the manifest comes last."""
    files = {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": names or list(files)}]
    return tar_of(files | {"config.json": b"{}", "manifest.json": json.dumps(manifest).encode()})


def oci(*layers: bytes, nested: bool = False) -> dict[str, bytes]:
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(content: bytes, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        files[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content), **more}

    manifest = blob(json.dumps({"config": blob(b"{}"), "layers": [blob(layer) for layer in layers]}).encode())
    if nested:
        ours = manifest | {"platform": {"os": "linux", "architecture": ARCHITECTURE}}
        attestation = blob(b"attestation", platform={"os": "unknown", "architecture": "unknown"})
        manifest = blob(json.dumps({"manifests": [ours, attestation]}).encode())
    files["index.json"] = json.dumps({"manifests": [manifest]}).encode()
    return files


class Place:
    """A store, and beside it a directory that nothing may change."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sentinel = directory / "sentinel"
        self.sentinel.mkdir(mode=0o755)
        self.secret = self.sentinel / "secret"
        self.secret.write_bytes(b"secret")
        self.secret.chmod(0o640)
        self.store_directory = directory / "images"
        limits = Limits(max_bytes=64 * KIB * KIB, max_members=2000)
        self.store = ImageStore(self.store_directory, IDENTITY, limits)
        self.before = self.snapshot()

    def snapshot(self) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = [(sorted(os.listdir(self.sentinel)),)]
        for path in (self.sentinel, self.secret):
            status = path.stat()
            found.append((status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, status.st_ino))
        return [*found, (self.secret.read_bytes(),)]

    def source(self, content: bytes) -> Path:
        path = self.directory / "source"
        path.write_bytes(content)
        return path

    def tree(self, files: dict[str, bytes]) -> Path:
        root = self.directory / "tree"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return root

    def add(self, content: bytes | Path, name: str = "mine", **options: Any) -> Path:
        """Returns the root file system."""
        source = self.source(content) if isinstance(content, bytes) else content
        self.store.add(name, source, **options)
        return self.store_directory / name / "rootfs"

    def refusal(self, content: bytes | Path, name: str = "mine") -> ApiError:
        """The error of an `add`, which leaves nothing."""
        with pytest.raises(ApiError) as caught:
            self.add(content, name)
        assert self.names() == []
        return caught.value

    def names(self) -> list[str]:
        """Images, and what is to become one."""
        there = os.listdir(self.store_directory) if self.store_directory.exists() else []
        return sorted(name for name in there if name != ".lock")


@pytest.fixture
def place() -> Iterator[Place]:
    directory = Path(tempfile.mkdtemp(prefix="sandkasten-images-", dir="/tmp"))
    directory.chmod(0o711)
    place = Place(directory)
    yield place
    assert place.snapshot() == place.before, "something outside was changed"
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A root file system with bash."""
    directory = Path(tempfile.mkdtemp(prefix="sandkasten-root-", dir="/tmp"))
    (directory / "usr/bin").mkdir(parents=True)
    (directory / "bin").symlink_to("usr/bin")
    shutil.copy("/bin/bash", directory / "usr/bin/bash")
    linked = subprocess.run(["ldd", "/bin/bash"], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", linked):
        copy = directory / library.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)
    (directory / "etc/ssl").mkdir(parents=True)
    (directory / "etc/issue").write_text("mine\n")
    (directory / "etc/ssl/here").write_text("mine\n")
    (directory / "etc/passwd").write_text("evil:x:0:0::/:/bin/bash\n")
    (directory / "etc/resolv.conf").symlink_to("/run/nowhere")
    (directory / "etc/mtab").symlink_to("../proc/self/mounts")
    for name in ("tmp", "home", "workspace"):
        (directory / name).mkdir()
        (directory / name / "left-out").touch()
    yield directory
    shutil.rmtree(directory)


def packed(root: Path) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(root, ".")
    return file.getvalue()


def run(place: Place, script: str, name: str = "mine") -> str:
    """Run bash in a real sandbox of the image."""
    run_dir = place.directory / "run"
    (run_dir / "etc").mkdir(parents=True, exist_ok=True)
    run_dir.chmod(0o711)
    tree = Tree(run_dir / "session", StagingIn(run_dir / "staging"), IDENTITY, durable=False)
    tree.create()
    etc = Etc(run_dir / "etc", IDENTITY).own
    policy = SandboxPolicy(place.store.find(name), tree.workspace, etc, b"")
    bwrap = bwrap_binary.find_bwrap(IDENTITY, run_dir)
    seccomp_filter = seccomp.descriptor(seccomp.program(platform.machine()))
    descriptors = bubblewrap.Descriptors(seccomp_filter)
    done = subprocess.run(
        bubblewrap.arguments(bwrap, policy, ["/bin/bash", "-c", script], descriptors),
        pass_fds=[seccomp_filter],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
        **popen_identity(IDENTITY),
    )
    os.close(seccomp_filter)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- what it takes ---

Source = Callable[[Place, Path], "bytes | Path"]


def zstd(content: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(content))


SOURCES: dict[str, Source] = {
    "directory": lambda _, root: root,
    "docker export": lambda _, root: packed(root),
    "gzip": lambda _, root: gzip.compress(packed(root), 1),
    "bzip2": lambda _, root: bz2.compress(packed(root), 1),
    "xz": lambda _, root: lzma.compress(packed(root), preset=0),
    "zstd": lambda _, root: zstd(packed(root)),
    "docker save": lambda _, root: docker_save(packed(root)),
    "docker save, gzip": lambda _, root: gzip.compress(docker_save(packed(root)), 1),
    "OCI directory": lambda place, root: place.tree(oci(gzip.compress(packed(root), 1))),
    "OCI archive": lambda _, root: tar_of(oci(packed(root))),
    "OCI archive, nested, zstd": lambda _, root: tar_of(oci(zstd(packed(root)), nested=True)),
    "docker save and OCI": lambda _, root: tar_of(oci(packed(root)) | {"manifest.json": b"[]"}),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_each_kind_of_source_becomes_a_sandbox_that_runs(place: Place, root: Path, kind: str) -> None:
    place.add(SOURCES[kind](place, root))
    assert run(place, "echo hello") == "hello\n"


def test_a_sandbox_has_the_image_and_its_own_etc(place: Place, root: Path) -> None:
    place.add(root)
    assert run(place, "echo $(</etc/issue) $(</etc/ssl/here)") == "mine mine\n"
    assert "sandbox:x:1000" in run(place, "echo $(</etc/passwd)")
    assert (
        run(place, "echo /tmp/* /home/* /workspace/* $(</etc/resolv.conf)")
        == "/tmp/* /home/sandbox /workspace/*\n"
    )
    assert "/workspace" in run(place, "echo $(</etc/mtab)")
    assert (
        run(
            place,
            "for i in /usr /etc /usr/bin/bash; do : 2>&- >$i/x || : 2>&- >$i || echo no; done 2>/dev/null",
        )
        == "no\n" * 3
    )
    assert run(place, f"[[ ! -e {place.sentinel} ]] && echo hidden") == "hidden\n"


def test_an_image_is_plain_mounts_and_links(place: Place) -> None:
    rootfs = place.add(
        tar(
            BASH,
            link("lib64", "usr/lib"),
            M("opt/x"),
            M("etc/hosts"),
            M("etc/a"),
            link("etc/b", "/c"),
            M("dev/x"),
        )
    )
    image = place.store.find("mine")
    assert image.name == "mine"
    assert image.links == {"/lib64": "usr/lib", "/etc/b": "/c"}
    assert image.read_only == {str(rootfs / path): f"/{path}" for path in ("bin", "opt", "etc/a")}


def test_bash_may_be_in_usr_alone(place: Place) -> None:
    place.add(tar(M("usr/bin/bash", mode=0o755)))
    assert place.store.find("mine").links == {"/bin": "usr/bin"}


def test_images_are_listed_and_removed(place: Place) -> None:
    assert place.store.list() == []
    place.add(tar(BASH), "b.1_x-y")
    place.add(tar(BASH, M("x", b"12345")), "a")
    first, second = place.store.list()
    assert (first.name, first.size_bytes, second.name, second.size_bytes) == ("a", 7, "b.1_x-y", 2)
    assert datetime.now(UTC) - first.created_at < timedelta(minutes=1)
    place.store.remove("a")
    assert place.names() == ["b.1_x-y"]
    for call in (place.store.find, place.store.remove):
        for name in ("a", "../images/b.1_x-y", ".", ""):
            with pytest.raises(ApiError) as caught:
                call(name)
            assert (caught.value.status, caught.value.code) == (404, "IMAGE_NOT_FOUND")


def test_an_image_is_replaced_only_on_demand(place: Place) -> None:
    place.add(tar(BASH, M("old")))
    with pytest.raises(ApiError) as caught:
        place.add(tar(BASH, M("new")))
    assert (caught.value.status, caught.value.code) == (409, "IMAGE_EXISTS")
    with pytest.raises(ApiError):
        place.add(tar(M("no-bash")), replace=True)
    rootfs = place.store_directory / "mine/rootfs"
    assert sorted(os.listdir(rootfs)) == ["bin", "old"]
    place.add(tar(BASH, M("new")), replace=True)
    assert sorted(os.listdir(rootfs)) == ["bin", "new"]
    assert place.names() == ["mine"]


def test_an_image_is_replaced_where_directories_cannot_be_exchanged(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandkasten.local.images.store.exchange", lambda *_: False)
    place.add(tar(BASH, M("old")))
    rootfs = place.add(tar(BASH, M("new")), replace=True)
    assert sorted(os.listdir(rootfs)) == ["bin", "new"]
    assert place.names() == ["mine"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "-a", ".new-x", "a" * 65, "ä", "a\n", *BUILT_IN])
def test_names_that_cannot_be(place: Place, name: str) -> None:
    error = place.refusal(tar(BASH), name)
    assert (error.status, error.code) == (400, "INVALID_IMAGE")
    assert "image name" in error.message


def test_built_in_names_and_own_files_are_those_of_the_other_modules(place: Place) -> None:
    assert built_in._PROGRAM_OF_IMAGE.keys() == BUILT_IN
    etc = Etc(place.directory, IDENTITY)
    assert {name.partition("/")[0] for name in etc.own} == OWN_ETC
    assert all(Path(path).is_file() for path in etc.own.values())


@pytest.mark.parametrize(
    "members",
    [
        [M("etc/x")],
        [M("bin/bash", mode=0o644)],
        [folder("bin/bash", mode=0o755)],
        [link("bin/bash", "/nowhere")],
        [link("bin", "/"), M("usr/bin/bash", mode=0o755)],
    ],
)
def test_an_image_has_bash(place: Place, members: list[M]) -> None:
    assert "has no /bin/bash" in place.refusal(tar(*members)).message


def test_sources_that_are_none(place: Place) -> None:
    assert "no file or directory" in place.refusal(place.directory / "nothing").message
    assert "holds the images" in place.refusal(place.directory).message
    assert "damaged" in place.refusal(b"").message
    assert "damaged" in place.refusal(b"not a tar" * 1000).message
    assert "damaged" in place.refusal(gzip.compress(tar(BASH))[:-4]).message
    assert "damaged" in place.refusal(lzma.compress(tar(BASH, M("x", os.urandom(9999))))[:-99]).message


def test_zstd_without_a_module(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install zstandard" in place.refusal(b"\x28\xb5\x2f\xfd" + b"x" * 99).message


def test_modes_owners_times_and_names(place: Place) -> None:
    umask = os.umask(0o077)
    try:
        rootfs = place.add(
            tar(
                BASH,
                folder("d", 0o1000),
                M("d/f", mode=0o4000, pax={"mtime": "12345.5"}),
                M("d/g\udcff", mode=0o777, pax={"mtime": "nan"}),
                M("made/x"),
                link("d/l", "f"),
                hard("d/h", "d/f"),
            )
        )
    finally:
        os.umask(umask)
    modes = {
        path.name: stat.S_IMODE(path.lstat().st_mode) for path in rootfs.rglob("*") if not path.is_symlink()
    }
    assert modes == {
        "bin": 0o755, "bash": 0o755, "d": 0o700, "f": 0o400, "g\udcff": 0o777, "made": 0o755, "x": 0o644,
        "h": 0o400,
    }  # fmt: skip
    assert (rootfs / "d/f").stat().st_mtime == 12345.5
    assert (rootfs / "d/f").samefile(rootfs / "d/h")
    assert os.fsencode(os.readlink(rootfs / "d/l")) == b"f"
    assert {path.lstat().st_uid for path in (rootfs, *rootfs.rglob("*"))} == {IDENTITY.uid}


def test_the_store_can_be_entered_by_the_sandboxes_user(place: Place) -> None:
    umask = os.umask(0o077)
    store = ImageStore(place.directory / "a/b", IDENTITY)
    store.add("mine", place.source(tar(BASH)))
    os.umask(umask)
    mode = 0o710 if IDENTITY.drops else 0o700
    for path in ("a", "a/b", "a/b/mine"):
        assert stat.S_IMODE((place.directory / path).stat().st_mode) == mode
    if IDENTITY.drops:
        (place.directory / "a").chmod(0o700)
        with pytest.raises(ApiError, match="chmod o\\+x"):
            store.add("other", place.source(tar(BASH)))
        (place.directory / "a").chmod(0o711)
    store.remove("mine")


def test_a_directory_is_copied_as_it_is(place: Place) -> None:
    source = place.tree({"bin/bash": b"#!", "a/f": b"x", "deep/" + "d/" * 300 + "f": b"x"})
    (source / "bin/bash").chmod(0o755)
    os.link(source / "a/f", source / "a/g")
    (source / "a/link").symlink_to(place.sentinel)
    os.mkfifo(source / "a/fifo")
    rootfs = place.add(source)
    assert sorted(os.listdir(rootfs / "a")) == ["f", "g", "link"]
    assert (rootfs / "a/f").samefile(rootfs / "a/g")
    assert (rootfs / "a/link").readlink() == place.sentinel
    assert (rootfs / ("deep/" + "d/" * 300 + "f")).is_file()


# --- layers ---


def test_layers_change_what_is_below(place: Place) -> None:
    lower = tar(
        BASH, M("keep"), M("gone"), M("was-file"), M("was-dir/x"), M("d/old"), M("d/both"), M("w/x/y"), M("t")
    )
    upper = tar(
        M("d/both", b"new"), M("d/sub/new"), M("d/.wh..wh..opq"), M(".wh.gone"), M(".wh.never"),
        M("no/.wh.x"),
        folder("was-file"), M("was-dir", b"file"), M("t", b"2"), M("w/.wh.x"), M("w/x/z"), M(".wh..wh.plnk"),
    )  # fmt: skip
    for archive in (docker_save(lower, upper), tar_of(oci(gzip.compress(lower), upper))):
        rootfs = place.add(archive, replace=True)
        files = {
            str(path.relative_to(rootfs)): path.read_text() for path in rootfs.rglob("*") if path.is_file()
        }
        assert files == {
            "bin/bash": "#!", "keep": "", "was-dir": "file", "d/both": "new", "d/sub/new": "", "t": "2",
            "w/x/z": "",
        }  # fmt: skip
        assert (rootfs / "was-file").is_dir()
        assert sorted(os.listdir(place.store_directory / "mine")) == [".lock", "image.json", "rootfs"]


def test_a_layer_writes_through_links_as_in_a_container(place: Place) -> None:
    rootfs = place.add(docker_save(tar(link("bin", "/usr/bin"), folder("usr/bin")), tar(BASH)))
    assert (rootfs / "usr/bin/bash").is_file()
    assert (rootfs / "bin").is_symlink()


def test_a_root_file_system_has_no_whiteouts(place: Place) -> None:
    rootfs = place.add(tar(BASH, M("x"), M(".wh.x")))
    assert sorted(os.listdir(rootfs)) == [".wh.x", "bin", "x"]


def test_layers_that_are_links_to_equal_ones(place: Place) -> None:
    files = {"a/layer.tar": tar(BASH), "manifest.json": b'[{"Layers": ["a/layer.tar", "b/layer.tar"]}]'}
    members = [M(name, content) for name, content in files.items()]
    place.add(tar(*members, link("b/layer.tar", "../a/layer.tar")))


# --- what is hostile ---


def deep_links(place: Place) -> list[M]:
    """As in CVE-2025-4517: longer than PATH_MAX once resolved, then far up and out."""
    members, path, short = [BASH], "", ""
    for letter in "abcdefghijklmnop":
        path = f"{path}{'d' * 247}{letter}/"
        members += [folder(short + "d" * 247 + letter), link(short + letter, "d" * 247 + letter)]
        short += f"{letter}/"
    far = f"{short}{'l' * 254}"
    return [
        *members,
        link(far, "../" * 16),
        link("escape", f"{far}/../..{place.sentinel}"),
        M("escape/evil", b"x"),
    ]


def raw(*fields: tuple[bytes, bytes], damage: Callable[[bytearray], None] | None = None) -> bytes:
    """An archive of raw headers: type and content."""
    archive = b""
    for kind, content in fields:
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, len(content)
        archive += info.tobuf() + content.ljust(-(-len(content) // 512) * 512, b"\0")
    return tar(BASH)[:1024] + archive + bytes(1024)


def negative_size() -> bytes:
    info = tarfile.TarInfo("x")
    info.size = -2048
    return tar(BASH)[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def oci_with(change: Callable[[dict[str, bytes]], None]) -> bytes:
    files = oci(tar(BASH), tar(M("x")))
    change(files)
    return tar_of(files)


def swap_last_layer(files: dict[str, bytes]) -> None:
    name = f"blobs/sha256/{hashlib.sha256(tar(M('x'))).hexdigest()}"
    files[name] = tar(M("evil"))


def index_of(digest: str) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update(
        {"index.json": json.dumps({"manifests": [{"digest": digest}]}).encode()}
    )


def oci_with_outside_blobs(place: Place) -> Path:
    tree = place.tree(oci(tar(BASH)))
    shutil.move(tree / "blobs", place.directory / "blobs-outside")
    (tree / "blobs").symlink_to(place.directory / "blobs-outside")
    return tree


# Each is an archive, or makes one, and a part of the error's text.
REFUSED: dict[str, tuple[bytes | Callable[[Place], list[M] | bytes | Path], str]] = {
    "..": (lambda p: [BASH, M("../sentinel/evil")], "'..'"),
    ".. in the middle": (lambda p: [BASH, M("usr/../../../../sentinel/evil")], "'..'"),
    ".. at the end": (lambda p: [BASH, folder("usr/..")], "'..'"),
    "absolute link, written through": (lambda p: [BASH, link("a", str(p.sentinel)), M("a/evil")], "exists"),
    "relative link, written through": (
        lambda p: [BASH, link("a", "../../../sentinel"), M("a/evil")],
        "exists",
    ),
    "chain of links": (
        lambda p: [BASH, link("a", "b"), link("b", "c/../.."), link("c", str(p.sentinel)), M("a/secret/x")],
        "exists",
    ),
    "endless links": (lambda p: [BASH, link("a", "b"), link("b", "a"), M("a/x")], "symbolic links"),
    "magic link": (lambda p: [BASH, link("a", "/proc/self/cwd"), M("a/x")], "exists"),
    "deep links": (deep_links, "cannot be unpacked"),
    "hard link outside": (lambda p: [BASH, hard("a", str(p.secret))], "No such file"),
    "hard link by ..": (lambda p: [BASH, hard("a", "../../../sentinel/secret")], "'..'"),
    "hard link through a link": (
        lambda p: [BASH, link("a", str(p.sentinel)), hard("b", "a/secret")],
        "No such",
    ),
    "hard link to a directory": (lambda p: [BASH, folder("a"), hard("b", "a")], "not a file"),
    "hard link to the root": (lambda p: [BASH, hard("b", "/")], "root itself"),
    "directory that becomes a link": (
        lambda p: [BASH, folder("d"), M("d/a"), link("d", str(p.sentinel)), M("d/secret", b"evil")],
        "exists",
    ),
    "the root as a link": (lambda p: [BASH, link(".", str(p.sentinel)), M("evil")], "root itself"),
    "the root as a file": (lambda p: [BASH, M("./")], "root itself"),
    "NUL in a name": (lambda p: [BASH, M("x", pax={"path": "a\0b"})], "makes no sense|NUL|damaged"),
    "NUL in a link": (
        lambda p: [BASH, M("x", type=tarfile.SYMTYPE, pax={"linkpath": "a\0b"})],
        "makes no sense|damaged",
    ),
    "empty link": (lambda p: [BASH, link("x", "")], "No such file"),
    "long path": (lambda p: [BASH, M("x/" * 3000)], "too long"),
    "long name": (lambda p: [BASH, M("x" * 300)], "too long"),
    "long link": (lambda p: [BASH, link("x", "y/" * 3000)], "too long"),
    "huge declared size": (lambda p: [BASH, M("x", size=1 << 50)], "larger than"),
    "declared size beyond the end": (lambda p: [BASH, M("x", size=1 << 20)], "damaged"),
    "negative size": (negative_size(), "damaged"),
    "too many members": (lambda p: [BASH, *(M(f"d/{number}") for number in range(2000))], "more than 2000"),
    "too many entries in the root": (
        lambda p: [BASH, *(M(f"{number}") for number in range(600))],
        "more than 500",
    ),
    "bomb": (gzip.compress(tar(BASH, M("x", bytes(65 * KIB * KIB))), 1), "larger than"),
    "bomb behind the end": (gzip.compress(tar(BASH) + bytes(65 * KIB * KIB), 1), "larger than"),
    "huge header": (gzip.compress(raw((b"x", bytes(32 * KIB * KIB))), 1), "damaged"),
    "headers of headers": (raw(*[(b"L", b"x")] * 2000), "makes no sense|damaged"),
    "sparse file": (
        lambda p: [BASH, M("x", pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 50)})],
        "sparse",
    ),
    "damage in the middle": (tar(BASH)[:1024] + b"x" * 512 + tar(M("y")), "damaged"),
    "unknown kind": (raw((b"Z", b"")), "unknown kind"),
    "whiteout of ..": (docker_save(tar(BASH), tar(M("d/.wh..."))), "whiteout of no file"),
    "whiteout of .": (docker_save(tar(BASH), tar(M("d/.wh.."))), "whiteout of no file"),
    "whiteout of nothing": (docker_save(tar(BASH), tar(M("d/.wh."))), "whiteout of no file"),
    "whiteout below ..": (docker_save(tar(BASH), tar(M("../../../sentinel/.wh.secret"))), "'..'"),
    "manifest to the host": (docker_save(tar(BASH), names=["/etc/passwd"]), "not in it"),
    "manifest to the host, by ..": (docker_save(tar(BASH), names=["../" * 9 + "etc/passwd"]), "not in it"),
    "manifest to a link": (
        tar(M("manifest.json", b'[{"Layers": ["a"]}]'), link("a", "/etc/passwd")),
        "not in it",
    ),
    "manifest of no image": (tar_of({"manifest.json": b"[]"}), "0 images"),
    "manifest of two images": (tar_of({"manifest.json": b"[{}, {}]"}), "2 images"),
    "manifest that is none": (tar_of({"manifest.json": b"{}"}), "list is missing"),
    "manifest of numbers": (tar_of({"manifest.json": b'[{"Layers": [1]}]'}), "name is missing"),
    "deep JSON": (tar_of({"manifest.json": b"[" * 200_000}), "not JSON"),
    "long JSON": (tar_of({"manifest.json": b" " * (5 * KIB * KIB)}), "too long"),
    "layers without end": (docker_save(tar(BASH), names=["0/layer.tar"] * 600), "512 layers"),
    "wrong digest": (oci_with(swap_last_layer), "does not have the digest"),
    "digest as a path": (oci_with(index_of("sha256:../../../../etc/passwd")), "known are sha256"),
    "missing manifest": (oci_with(index_of(f"sha256:{'0' * 64}")), "not in it"),
    "no image for this machine": (
        tar_of(
            oci(nested=True) | {"index.json": b'{"manifests": [{"digest": "", "platform": {"os": "plan9"}}]}'}
        ),
        "0 images",
    ),
    "blobs outside": (oci_with_outside_blobs, "cannot be unpacked"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(place: Place, name: str) -> None:
    made, text = REFUSED[name]
    archive = made if isinstance(made, bytes) else made(place)
    error = place.refusal(tar(*archive) if isinstance(archive, list) else archive)
    assert (error.status, error.code) == (400, "INVALID_IMAGE")
    assert re.search(text, error.message), error.message


# Each comes with what is then inside: path to content, or to None for what is not a file.
HARMLESS: dict[str, tuple[Callable[[Place], list[M] | bytes], dict[str, str | None]]] = {
    "absolute name": (lambda p: [BASH, M("/sentinel/secret", b"evil")], {"sentinel/secret": "evil"}),
    "absolute name, twice": (
        lambda p: [BASH, M("//./sentinel//secret", b"evil")],
        {"sentinel/secret": "evil"},
    ),
    "link to the root": (lambda p: [BASH, link("a", "/"), M("a/a2/evil", b"x")], {"a2/evil": "x"}),
    "link above the root": (lambda p: [BASH, link("a", "../../.."), M("a/evil", b"x")], {"evil": "x"}),
    "chain to the root": (
        lambda p: [
            BASH,
            link("a", "b/.."),
            link("b", "c"),
            link("c", "/bin"),
            M("a/sentinel/secret", b"evil"),
        ],
        {"sentinel/secret": "evil"},
    ),
    "link that is overwritten": (lambda p: [BASH, link("a", str(p.secret)), M("a", b"evil")], {"a": "evil"}),
    "link that a directory replaces": (
        lambda p: [BASH, link("a", str(p.sentinel)), folder("a", 0o777), M("a/secret", b"evil")],
        {"a/secret": "evil"},
    ),
    "hard link to a link, overwritten": (
        lambda p: [BASH, link("a", str(p.secret)), hard("b", "a"), M("b", b"evil", mode=0o777)],
        {"b": "evil"},
    ),
    "hard link to itself": (lambda p: [BASH, M("a", b"x"), hard("a", "./a")], {"a": "x"}),
    "hard link, overwritten": (
        lambda p: [BASH, M("a", b"x"), hard("b", "a"), M("b", b"y")],
        {"a": "x", "b": "y"},
    ),
    "devices": (
        lambda p: [BASH, M("dev/null", type=tarfile.CHRTYPE), M("sda", type=tarfile.BLKTYPE)],
        {"dev/null": None, "sda": None},
    ),
    "FIFO": (lambda p: [BASH, M("a", type=tarfile.FIFOTYPE)], {"a": None}),
    "whiteout through a link": (
        lambda p: docker_save(
            tar(BASH, link("a", str(p.sentinel))), tar(M("a/.wh.secret"), M("a/.wh..wh..opq"))
        ),
        {},
    ),
    "whiteout of the root": (
        lambda p: docker_save(tar(M("x"), link("a", str(p.sentinel))), tar(BASH, M(".wh..wh..opq"))),
        {"x": None},
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(place: Place, name: str) -> None:
    made, inside = HARMLESS[name]
    archive = made(place)
    rootfs = place.add(tar(*archive) if isinstance(archive, list) else archive)
    for path, content in inside.items():
        found = rootfs / path
        assert not found.is_symlink()
        assert (found.read_text() if found.is_file() else None) == content
    for path in rootfs.rglob("*"):
        assert stat.S_IFMT(path.lstat().st_mode) in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}
        assert not path.lstat().st_mode & 0o6000 or path.is_symlink()


def test_setuid_is_gone(place: Place) -> None:
    rootfs = place.add(tar(BASH, M("su", mode=0o6755), folder("d", 0o6755)))
    assert [stat.S_IMODE((rootfs / name).stat().st_mode) for name in ("su", "d")] == [0o755, 0o755]


@pytest.mark.parametrize("target", ["/etc", "../../../../../../../../etc", "."])
def test_an_etc_that_is_a_link_is_left_out(place: Place, target: str) -> None:
    place.add(tar(BASH, link("etc", target), link("tmp", "/"), link("run", "/bin"), link("home", "/bin")))
    image = place.store.find("mine")
    assert list(image.read_only.values()) == ["/bin"]
    assert image.links == {}


# --- what is cut short ---

ADD = """
import sys; from pathlib import Path
from sandkasten.local.identity import Identity, popen_identity
from sandkasten.local.images.store import ImageStore
ImageStore(Path(sys.argv[1]), Identity.of_this_process()).add("mine", Path(sys.argv[2]))
"""


def test_a_kill_leaves_no_image_and_the_next_add_tidies_up(place: Place) -> None:
    source = place.directory / "large"
    source.write_bytes(tar(BASH)[:1024] + tar(M("large", size=7 * KIB**3))[:512])
    os.truncate(source, 8 * KIB**3)  # a hole; it is not copied for long
    process = subprocess.Popen([sys.executable, "-c", ADD, place.store_directory, source])
    try:
        deadline = time.monotonic() + 40
        while not list(place.store_directory.glob(".new-*/rootfs/large")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        place.add(tar(BASH), "other")  # leaves alone what is at work
        assert len(place.names()) == 2
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [image.name for image in place.store.list()] == ["other"]
    assert len(place.names()) == 2
    place.add(tar(BASH))
    assert place.names() == ["mine", "other"]
