"""The attempts on a single sandbox: what is tried, what stops it, and what it takes for it to succeed."""

from __future__ import annotations

from tests.local.isolation.arena import layers
from tests.local.isolation.arena.lab import Attempt
from tests.local.isolation.arena.shared import SHARED

_THE_HOSTS = "its success would change the host itself"

ENVIRONMENTS = [
    Attempt(
        "environments/the-project-around-it",
        "read(facts.environment + '/secret')",
        "ENOENT",
        (layers.HIDDEN_FILES,),
    ),
    Attempt(
        "environments/a-part-that-is-a-link",
        """
try: read(facts.environment + "/include")
except OSError: read(facts.environment + "/share/" + os.path.basename(facts.path))
""",
        "ENOENT",
        (layers.HIDDEN_FILES,),
    ),
    Attempt(
        "environments/a-package-that-is-a-link",
        "read(facts.environment + '/lib/python3.11/site-packages/package')",
        "ENOENT",
        (layers.HIDDEN_FILES,),
    ),
    Attempt(
        "environments/what-a-pth-file-names",
        """
packages = facts.environment + "/lib/python3.11/site-packages"
directory = open(packages + "/elsewhere.pth").read().strip()
read(os.path.join(directory, os.path.basename(facts.path)))
""",
        "ENOENT",
        (layers.HIDDEN_FILES,),
    ),
    Attempt(
        "environments/write",
        "put(facts.environment + '/lib/python3.11/site-packages/module.py', '')",
        "EROFS",
        (layers.READ_ONLY_ENVIRONMENT,),
    ),
]

FILES = [
    Attempt("host-files/absolute-path", "read(facts.path)", "ENOENT", (layers.HIDDEN_FILES,)),
    Attempt(
        "host-files/dot-dot",
        """
os.makedirs("/workspace/a/b", exist_ok=True)
os.chdir("/workspace/a/b")
os.chdir("../" * 20)
read("." + facts.path)
""",
        "ENOENT",
        (layers.HIDDEN_FILES,),
    ),
    Attempt(
        "host-files/symlink",
        """
os.symlink(facts.path, "/workspace/link")
os.symlink("../../../../../../.." + facts.path, "/workspace/relative")
try: read("/workspace/link")
except OSError: read("/workspace/relative")
""",
        "ENOENT",
        (layers.HIDDEN_FILES,),
    ),
    Attempt(
        "host-files/search",
        """
for directory, below, names in os.walk("/"):
    if directory in ("/proc", "/usr"): below.clear()
    if "host.sock" in names: break
else:
    raise Stopped("it is nowhere")
""",
        "it is nowhere",
        (layers.HIDDEN_SOCKETS,),
    ),
    *(
        Attempt(
            f"host-files/proc-{name}-of-every-process",
            f"""
for name in filter(str.isdigit, os.listdir("/proc")):
    try: read(f"/proc/{{name}}/{way}" + facts.path); break
    except (OSError, Stopped): pass
else:
    raise Stopped("by none of them")
""",
            "by none of them",
            on_host=True,
        )
        for name, way in (("root", "root"), ("cwd", "cwd/../../../.."))
    ),
    Attempt(
        "host-files/proc-self-root",
        "read('/proc/self/root/../..' + facts.path)",
        "ENOENT",
        (layers.HIDDEN_FILES,),
    ),
    Attempt(
        "host-files/directory-descriptors",
        """
name = os.path.basename(facts.path)
for place in ("/proc/self/fd", "/dev/fd", *(f"/proc/{n}/fd" for n in os.listdir("/proc") if n.isdigit())):
    try: names = os.listdir(place)
    except OSError: continue
    for number in names:
        for way in (name, "../" * 9 + facts.path, name + "/.."):
            try: read(f"{place}/{number}/{way}")
            except (OSError, Stopped): continue
            raise SystemExit(print("succeeded"))
raise Stopped("no descriptor leads there")
""",
        "no descriptor leads there",
        (layers.CLOSED_DESCRIPTORS,),
    ),
    Attempt(
        "host-files/hard-link",
        """
try: source, target = facts.own + "/file", facts.own + "/link"; os.stat(source)
except OSError: source, target = "/opt/shared/file", "/workspace/hard-link"
os.link(source, target)
os.unlink(target)
""",
        "EXDEV",
        on_host=True,
    ),
    Attempt(
        "host-files/file-handle",
        """
handle = bytes.fromhex(facts.handle)
room = ctypes.create_string_buffer(struct.pack("Ii", len(handle), facts.handle_type) + handle)
place = os.open("/opt/shared" if os.path.isdir("/opt/shared") else "/tmp", os.O_RDONLY)
descriptor = syscall("open_by_handle_at", place, room, os.O_RDONLY)
if os.read(descriptor, 99) != facts.secret.encode(): raise Stopped("it is another file")
""",
        "EPERM",
        as_root=True,
        unproven_as_user="only the host's root may open by handle",
    ),
    Attempt(
        "host-files/name-to-handle",
        """
room = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
syscall("name_to_handle_at", -100, b"/opt/shared/file", room, ctypes.byref(ctypes.c_int()), 0)
""",
        "ENOSYS",
        (layers.FILTER,),
    ),
    Attempt(
        "host-files/accounts",
        """
lines = open("/etc/passwd").read().splitlines()
if len(lines) < 4 and (facts.host_name not in open("/etc/hosts").read()): raise Stopped("three accounts")
""",
        "three accounts",
        (layers.HIDDEN_PASSWD,),
    ),
    Attempt(
        "host-files/sys",
        "os.listdir('/sys/kernel'); os.listdir('/sys/class')",
        "ENOENT",
        (layers.HIDDEN_SYS,),
    ),
    Attempt(
        "host-files/control-groups",
        "os.listdir('/sys/fs/cgroup')",
        "ENOENT",
        (layers.HIDDEN_SYS,),
    ),
    Attempt(
        "root-drops/read-roots-file",
        "open(next(filter(os.path.exists, facts.roots_files), facts.roots_files[0])).read()",
        "EACCES|ENOENT",
        (layers.ROOT_DROPS,),
        unproven_as_user="the sandboxes' user is the tests' own in any case",
    ),
    Attempt(
        "root-drops/roots-directory",
        "os.listdir(os.path.dirname(facts.roots_files[0]) + '/closed')",
        "EACCES|ENOENT",
        (layers.ROOT_DROPS,),
        unproven_as_user="the sandboxes' user is the tests' own in any case",
    ),
    Attempt(
        "devices/disks-and-memory",
        """
known = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"}
found = [n for n in os.listdir("/dev") if n not in known and not stat.S_ISLNK(os.lstat("/dev/" + n).st_mode)
         and (stat.S_ISBLK(m := os.stat("/dev/" + n).st_mode) or stat.S_ISCHR(m))]
if not found: raise Stopped("nothing but the usual ones")
""",
        "nothing but the usual ones",
        (layers.OWN_DEVICES,),
    ),
    Attempt(
        "devices/console",
        "if os.stat('/dev/console').st_rdev != os.makedev(5, 1): raise Stopped('a terminal of its own')",
        "ENOENT|a terminal of its own",
        (layers.OWN_DEVICES,),
        kernel_may_refuse="ENOENT|a terminal of its own",  # in a container
    ),
    Attempt(
        "devices/make-one",
        """
import tempfile
path = tempfile.mkdtemp(dir="/tmp") + "/null"
os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
os.unlink(path)
""",
        "EPERM",
        as_root=True,
        unproven_as_user="only the host's root may make devices",
    ),
    Attempt(
        "devices/kernel-log",
        "open('/dev/kmsg')",
        "ENOENT|EPERM|EACCES",
        as_root=True,
        unproven_as_user="only the host's root may read it",
        kernel_may_refuse="ENOENT",
    ),
]

WRITES = [
    Attempt("read-only/image", "open('/opt/shared/new', 'w')", "EROFS", (layers.READ_ONLY_IMAGE,)),
    Attempt("read-only/image-in-place", "open('/opt/shared/file', 'r+')", "EROFS", (layers.READ_ONLY_IMAGE,)),
    Attempt("read-only/chmod-of-image", "os.chmod('/opt/shared', 0o755)", "EROFS", (layers.READ_ONLY_IMAGE,)),
    Attempt("read-only/usr", "open('/usr/bin/new', 'w')", "EROFS|EACCES", unproven=_THE_HOSTS),
    Attempt("read-only/root", "open('/new', 'w')", "EROFS", (layers.READ_ONLY_ROOT,)),
    Attempt("read-only/etc", "open('/etc/ld.so.preload', 'w')", "EROFS", (layers.READ_ONLY_ETC,)),
    Attempt(
        "read-only/etc-in-place", "os.rename('/etc/hosts', '/etc/passwd')", "EROFS", (layers.READ_ONLY_ETC,)
    ),
    Attempt("read-only/dev", "open('/dev/new', 'w')", "EROFS", (layers.READ_ONLY_DEV,)),
    Attempt(
        "read-only/anywhere-else",
        """
allowed = ("/workspace", "/tmp", "/home/sandbox", "/run/sandkasten", "/dev/shm", "/proc", "/usr")
found = []
for directory, below, _ in os.walk("/"):
    below[:] = [b for b in below if os.path.join(directory, b) not in allowed]
    try:
        open(directory + "/new", "w").close()
        found.append(directory)
    except OSError: pass
if not found: raise Stopped("nowhere but in its own places")
""",
        "nowhere but in its own places",
        (layers.READ_ONLY_ROOT,),
    ),
    Attempt(
        "quota/tmp",
        """
with open("/tmp/large", "wb") as file: file.write(bytes(2 << 20))
""",
        "ENOSPC",
        (layers.SMALL_TMP,),
    ),
    Attempt(
        "quota/shared-memory",
        """
with open("/dev/shm/large", "wb") as file: file.write(bytes(2 << 20))
""",
        "ENOSPC",
        (layers.SMALL_TMP,),
    ),
    Attempt(
        "kernel-settings/core-pattern",
        "open('/proc/sys/kernel/core_pattern', 'r+')",
        "EROFS|EACCES|ENOENT",
        as_root=True,
        unproven_as_user="only the host's root may",
    ),
    Attempt(
        "kernel-settings/modprobe-path",
        "open('/proc/sys/kernel/modprobe', 'r+')",
        "EROFS|EACCES|ENOENT",
        as_root=True,
        unproven_as_user="only the host's root may",
        kernel_may_refuse="ENOENT",
    ),
    Attempt(
        "kernel-settings/sysrq",
        "open('/proc/sysrq-trigger', 'a')",
        "EROFS|EACCES|ENOENT",
        as_root=True,
        unproven_as_user="only the host's root may",
        kernel_may_refuse="ENOENT",
    ),
    Attempt(
        "kernel-settings/every-file-of-proc-sys",
        """
opened = []
for directory, _, names in os.walk("/proc/sys"):
    # Those of the network, IPC and process namespaces count for this sandbox alone.
    if directory.startswith(("/proc/sys/net", "/proc/sys/fs/mqueue")): continue
    for name in names:
        if name.startswith(("shm", "msg", "sem", "auto_msgmni", "pid_max", "ns_last_pid")): continue
        try: os.close(os.open(f"{directory}/{name}", os.O_WRONLY)); opened.append(name)
        except OSError: pass
if not opened: raise Stopped("none of them")
""",
        "none of them",
        as_root=True,
        unproven_as_user="only the host's root may",
    ),
    Attempt(
        "kernel-settings/oom-score",
        """
put("/proc/self/oom_score_adj", "-1000")
""",
        "EACCES|EROFS",
        as_root=True,
        unproven_as_user="only the host's root may",
    ),
]

PROCESSES = [
    Attempt(
        "host-processes/list",
        """
if b"sleep" not in open(f"/proc/{facts.pid}/cmdline", "rb").read(): raise Stopped("it is another process")
""",
        "ENOENT|it is another process",
        (layers.PROCESSES,),
    ),
    Attempt("host-processes/kill", "os.kill(facts.pid, signal.SIGCONT)", "ESRCH", (layers.PROCESSES,)),
    Attempt(
        "host-processes/kill-group",
        "os.kill(-os.getpgid(facts.pid), signal.SIGCONT) if facts.pid > 1000 else os.kill(facts.pid, 0)",
        "ESRCH",
        (layers.PROCESSES,),
    ),
    Attempt(
        "host-processes/pidfd",
        "signal.pidfd_send_signal(os.pidfd_open(facts.pid), signal.SIGCONT)",
        "ESRCH",
        (layers.PROCESSES,),
    ),
    Attempt(
        "host-processes/slow-down",
        "os.setpriority(os.PRIO_PROCESS, facts.pid, 19)",
        "ESRCH",
        (layers.PROCESSES,),
    ),
    Attempt(
        "host-processes/pin",
        "os.sched_setaffinity(facts.pid, os.sched_getaffinity(0))",
        "ESRCH",
        (layers.PROCESSES,),
    ),
    Attempt(
        "host-processes/environment",
        "open(f'/proc/{facts.pid}/environ', 'rb').read()",
        "ENOENT|EACCES",
        on_host=True,
    ),
    Attempt(
        "host-processes/trace",
        "syscall('ptrace', 0x4206, facts.pid, 0, 0)  # PTRACE_SEIZE",
        "EPERM",
        on_host=True,
    ),
    Attempt(
        "other-processes/trace-a-child",
        "CHILD = child_that_waits(); syscall('ptrace', 0x4206, CHILD, 0, 0)",
        "EPERM",
        (layers.FILTER,),
    ),
    Attempt(
        "other-processes/trace-process-1",
        "syscall('ptrace', 0x4206, 1, 0, 0)",
        "EPERM",
        (layers.FILTER,),
    ),
    Attempt(
        "other-processes/read-memory",
        """
CHILD = child_that_waits()
data = ctypes.create_string_buffer(b"here")
into = ctypes.create_string_buffer(4)
def vector(b): return ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(b), 4))
syscall("process_vm_readv", CHILD, vector(into), 1, vector(data), 1, 0)
""",
        "EPERM",
        (layers.FILTER,),
    ),
    Attempt(
        "other-processes/write-memory",
        """
CHILD = child_that_waits()
data = ctypes.create_string_buffer(b"here")
def vector(b): return ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(b), 4))
syscall("process_vm_writev", CHILD, vector(data), 1, vector(data), 1, 0)
""",
        "EPERM",
        (layers.FILTER,),
    ),
    Attempt(
        "other-processes/take-descriptors",
        """
CHILD = child_that_waits()
syscall("pidfd_getfd", os.pidfd_open(CHILD), 0, 0)
""",
        "EPERM",
        (layers.FILTER,),
    ),
    Attempt(
        "other-processes/take-descriptors-of-process-1",
        "syscall('pidfd_getfd', os.pidfd_open(1), 0, 0)",
        "EPERM",
        (layers.FILTER,),
    ),
    Attempt(
        "other-processes/end-process-1",
        "os.kill(1, signal.SIGKILL); time.sleep(0.1); raise Stopped('alive')",
        "alive",
        unproven="the kernel ignores it for process 1 of any namespace",
    ),
    Attempt(
        "descriptors/inherited",
        "if {*os.listdir('/proc/self/fd')} <= {'0', '1', '2', '3'}: raise Stopped('three')",
        "three",
        (layers.CLOSED_DESCRIPTORS,),
    ),
    Attempt(
        "descriptors/forge-through-a-socket",
        """
written = 0
for number in range(3, 1024):
    try: written += os.write(number, b"\\0result\\0" + b"x" * 16 + b"\\0" + b"0\\0/\\0")
    except OSError: pass
if not written: raise Stopped("no descriptor takes it")
""",
        "no descriptor takes it",
        (layers.NO_INHERITED_SOCKET,),
    ),
    Attempt(
        "environment/own",
        "if facts.secret not in os.environ.values(): raise Stopped('not there')",
        "not there",
        (layers.ENVIRONMENT,),
    ),
    Attempt(
        "environment/every-process",
        """
for name in filter(str.isdigit, os.listdir("/proc")):
    try: read(f"/proc/{name}/environ"); break
    except (OSError, Stopped): pass
else:
    raise Stopped("in none of them")
""",
        "in none of them",
        (layers.ENVIRONMENT,),
    ),
]

NETWORK = [
    Attempt(
        "network/loopback",
        "socket.create_connection(('127.0.0.1', facts.port), 3)",
        "ECONNREFUSED|ENETUNREACH",
        (layers.NETWORK,),
    ),
    Attempt(
        "network/address-of-the-host",
        "socket.create_connection((facts.address, facts.port), 3)",
        "ENETUNREACH|ECONNREFUSED",
        (layers.NETWORK,),
    ),
    Attempt(
        "network/datagram",
        """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((facts.address, facts.port))
for _ in range(2):  # where only its own loopback has this address, the second one tells that nobody was there
    s.send(b"x")
    time.sleep(0.1)
""",
        "ENETUNREACH|ECONNREFUSED",
        (layers.NETWORK,),
    ),
    Attempt(
        "network/interfaces",
        """
names = [name for _, name in socket.if_nameindex() if name != "lo"]
if not names and f":{facts.port:04X} " not in open("/proc/net/tcp").read() + open("/proc/net/tcp6").read():
    raise Stopped("none but lo")
""",
        "none but lo",
        (layers.NETWORK,),
    ),
    Attempt(
        "network/abstract-socket",
        "socket.socket(socket.AF_UNIX).connect('\\0' + facts.abstract)",
        "ECONNREFUSED",
        (layers.NETWORK,),
    ),
    Attempt(
        "network/names-of-abstract-sockets",
        "if facts.abstract not in open('/proc/net/unix').read(): raise Stopped('not there')",
        "not there",
        (layers.NETWORK,),
    ),
    Attempt(
        "network/socket-in-the-file-system",
        "socket.socket(socket.AF_UNIX).connect(facts.socket)",
        "ENOENT",
        (layers.HIDDEN_SOCKETS,),
    ),
    Attempt(
        "network/change-interfaces",
        """
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
down = struct.pack("BxHiII", 0, 0, socket.if_nametoindex("lo"), 0, 1)
s.send(struct.pack("IHHII", 16 + len(down), 16, 5, 1, 0) + down)
number = -struct.unpack_from("i", s.recv(4096), 16)[0]
if number: raise OSError(number, "")
""",
        "EPERM",
        (layers.NO_NET_ADMIN,),
    ),
    Attempt(
        "network/raw-socket",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "EPERM",
        (layers.NO_NET_RAW,),
    ),
    Attempt(
        "network/packet-socket",
        "socket.socket(17, socket.SOCK_RAW, 0x300)",
        "EAFNOSUPPORT|EPERM",
        (layers.FILTER, layers.NO_NET_RAW),
        kernel_may_refuse="EAFNOSUPPORT",
    ),
    *(
        Attempt(
            f"network/family-{name}",
            f"socket.socket({family}, {kind}, {protocol})",
            "EAFNOSUPPORT|EPROTONOSUPPORT",
            (layers.FILTER,),
            kernel_may_refuse="EAFNOSUPPORT|EPROTONOSUPPORT|ESOCKTNOSUPPORT|EPERM",
        )
        for name, family, kind, protocol in (
            ("vsock", 40, 1, 0),
            ("crypto", 38, 5, 0),
            ("netfilter", 16, 3, 12),
            ("generic-netlink", 16, 3, 16),
            ("ipsec", 16, 3, 6),
        )
    ),
]

IPC = [
    Attempt("ipc/system-v", "call('shmget', facts.shm_key, 4096, 0)", "ENOENT", (layers.IPC,)),
    Attempt("ipc/shared-memory", "read('/dev/shm/' + facts.shm_name)", "ENOENT", (layers.HIDDEN_SHM,)),
]

_USERNS = 0x10000000
_NEW_ROOT = """
uid = os.getuid()
def become_root():
    try: put("/proc/self/uid_map", f"0 {uid} 1")
    except OSError: pass  # nobody needs a number for what the new namespace gives
    call("mount", b"/dev/shm", b"/dev/shm", None, 4096, None)  # nothing else is mounted below it
"""

PRIVILEGES = [
    Attempt(
        "privileges/setuid-program",
        "import subprocess\n"
        "print(said := subprocess.run([facts.setuid, '-u'], capture_output=True, text=True).stdout)\n"
        "if said.strip() != '0': raise Stopped('an ordinary user')",
        "an ordinary user|ENOENT",
        on_host=True,
        unproven_as_user="only root can make a setuid program",
        proof_says="^0",
        kernel_may_refuse="an ordinary user",  # where /tmp is mounted nosuid
    ),
    Attempt(
        "privileges/setuid-file-of-its-own",
        """
import shutil
place = "/workspace" if os.path.isdir("/opt/shared") else facts.own
shutil.copy("/usr/bin/id", place + "/id"); os.chmod(place + "/id", 0o6755)
mounts = {l.split()[4]: l.split()[5] for l in open("/proc/self/mountinfo")}
if "nosuid" in mounts.get(place, mounts["/"]): raise Stopped("nosuid")
""",
        "nosuid",
        on_host=True,
    ),
    Attempt(
        "privileges/no-new-privs",
        "if call('prctl', 39, 0, 0, 0, 0): raise Stopped('they are off for good')",
        "they are off for good",
        on_host=True,
    ),
    Attempt(
        "privileges/su",
        "import subprocess\n"
        "if subprocess.run(['su', '-c', 'id -u'], stdin=0, capture_output=True).stdout.strip() != b'0': "
        "raise Stopped('no')",
        "no|ENOENT",
        as_root=True,
        unproven_as_user="it asks for root's password",
    ),
    Attempt(
        "privileges/sudo",
        "import subprocess\n"
        "if subprocess.run(['sudo', '-n', 'id', '-u'], stdin=0, capture_output=True).stdout.strip() != b'0': "
        "raise Stopped('no')",
        "no|ENOENT",
        as_root=True,
        unproven_as_user="it asks for a password",
        kernel_may_refuse="ENOENT",
    ),
    Attempt(
        "privileges/newuidmap",
        "import subprocess\n"
        "if subprocess.run(['newuidmap', str(os.getpid()), '0', '0', '1'], capture_output=True).returncode: "
        "raise Stopped('no')",
        "no|ENOENT",
        unproven="it needs a user that /etc/subuid names",
    ),
    Attempt(
        "privileges/become-root",
        "os.setuid(0)",
        "EINVAL|EPERM",
        as_root=True,
        unproven_as_user="only the host's root may",
    ),
    Attempt(
        "privileges/become-root-group",
        "os.setgid(0)",
        "EINVAL|EPERM",
        as_root=True,
        unproven_as_user="only the host's root may",
    ),
    Attempt(
        "privileges/other-groups",
        "os.setgroups([0])",
        "EPERM",
        as_root=True,
        unproven_as_user="only the host's root may",
    ),
    Attempt(
        "privileges/capset",
        """
header, bit = struct.pack("Ii", 0x20080522, 0), 1 << 12  # CAP_NET_ADMIN
syscall("capset", ctypes.create_string_buffer(header),
        ctypes.create_string_buffer(struct.pack("6I", bit, bit, bit, 0, 0, 0)))
""",
        "EPERM",
        (layers.NO_NET_ADMIN,),
    ),
    Attempt(
        "privileges/ambient-capabilities",
        "call('prctl', 47, 2, 12, 0, 0)  # PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN",
        "EPERM",
        (layers.NO_NET_ADMIN,),
    ),
    Attempt(
        "privileges/file-capabilities",
        """
open("/workspace/program", "w").close()
os.setxattr("/workspace/program", "security.capability", struct.pack("5I", 0x02000001, 1 << 12, 0, 0, 0))
""",
        "EPERM|ENOTSUP|EOPNOTSUPP",
        (layers.FILTER, layers.NO_SETFCAP),
        kernel_may_refuse="ENOTSUP|EOPNOTSUPP",
    ),
    Attempt(
        "privileges/user-namespace-by-unshare",
        f"{_NEW_ROOT}\ncall('unshare', {_USERNS | 0x20000}); become_root()",
        "EPERM",
        (layers.FILTER,),
    ),
    Attempt(
        "privileges/user-namespace-by-clone",
        f"""
{_NEW_ROOT}
child = syscall("clone", {_USERNS | 0x20000 | 17}, 0, 0, 0, 0)
if child == 0:
    try: become_root()
    except OSError: os._exit(1)
    os._exit(0)
if os.waitpid(child, 0)[1]: raise Stopped("not root there")
""",
        "EPERM",
        (layers.FILTER,),
    ),
    Attempt(
        "privileges/user-namespace-by-clone3",
        f"""
{_NEW_ROOT}
room = ctypes.create_string_buffer(struct.pack("8Q", {_USERNS | 0x20000}, 0, 0, 0, 17, 0, 0, 0))
child = syscall("clone3", room, 64)
if child == 0:
    try: become_root()
    except OSError: os._exit(1)
    os._exit(0)
if os.waitpid(child, 0)[1]: raise Stopped("not root there")
""",
        "ENOSYS",
        (layers.FILTER,),
    ),
    Attempt(
        "privileges/uid-map",
        "put('/proc/self/uid_map', '0 0 1')",
        "EPERM|EACCES|EINVAL|EROFS",
        unproven="a map can be written once, and bubblewrap did",
    ),
    Attempt(
        "privileges/join-namespaces",
        "call('setns', os.open('/proc/1/ns/mnt', os.O_RDONLY), 0)",
        "EPERM",
        (layers.FILTER, layers.NO_ADMIN, layers.NO_CHROOT),
        beside="EACCES",  # the namespaces of process 1 cannot even be opened
    ),
]

MOUNTS = [
    Attempt(
        "mounts/new",
        "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)",
        "EPERM",
        (layers.FILTER, layers.NO_ADMIN),
    ),
    Attempt(
        "mounts/make-writable",
        "call('mount', None, b'/opt/shared', None, 32 | 4096 | 2 | 4, None)\nopen('/opt/shared/new', 'w')",
        "EPERM",
        (layers.FILTER, layers.NO_ADMIN),
    ),
    Attempt("mounts/take-away", "call('umount2', b'/tmp', 2)", "EPERM", (layers.FILTER, layers.NO_ADMIN)),
    Attempt(
        "mounts/pivot-root",
        "os.mkdir('/tmp/a'); call('mount', b'/tmp', b'/tmp', None, 4096, None); os.mkdir('/tmp/old');"
        "syscall('pivot_root', b'/tmp', b'/tmp/old')",
        "EPERM",
        (layers.FILTER, layers.NO_ADMIN),
    ),
    Attempt(
        "mounts/chroot",
        """
os.mkdir("/workspace/jail")
os.chroot("/workspace/jail")  # while the working directory stays outside
os.chdir("../" * 20)
os.chroot(".")
os.stat("/usr/bin")
""",
        "EPERM",
        (layers.FILTER, layers.NO_CHROOT),
    ),
    Attempt(
        "mounts/new-interface",
        "syscall('fsopen', b'tmpfs', 0)",
        "ENOSYS|EPERM",
        (layers.FILTER, layers.NO_ADMIN),
    ),
    Attempt(
        "mounts/clone-a-tree",
        "syscall('open_tree', -100, b'/usr', 1)",
        "ENOSYS|EPERM",
        (layers.FILTER, layers.NO_ADMIN),
    ),
    Attempt(
        "mounts/control-groups",
        "os.mkdir('/tmp/c'); call('mount', b'none', b'/tmp/c', b'cgroup2', 0, None)",
        "EPERM",
        (layers.FILTER, layers.NO_ADMIN),
        kernel_may_refuse="EPERM|EBUSY|ENODEV",
    ),
]

_UNPRIVILEGED = "the kernel leaves it to root"

KERNEL = [
    Attempt(
        "kernel/keys",
        "syscall('add_key', b'user', b'sk-isolation', b'x', 1, -1)  # this thread's own keyring",
        "EPERM",
        (layers.FILTER,),
        kernel_may_refuse="ENOSYS",
    ),
    Attempt(
        "kernel/keyrings-of-the-user",
        "syscall('keyctl', 0, -4, 0)",
        "EPERM",
        (layers.FILTER,),
        kernel_may_refuse="ENOSYS|ENOKEY",
    ),
    Attempt(
        "kernel/bpf",
        """
room = ctypes.create_string_buffer(struct.pack("5I", 2, 4, 4, 1, 0) + bytes(100))
syscall("bpf", 0, room, 48)
""",
        "EPERM",
        as_root=True,
        unproven_as_user=_UNPRIVILEGED,
        kernel_may_refuse="ENOSYS",
    ),
    Attempt(
        "kernel/perf-events",
        """
room = ctypes.create_string_buffer(struct.pack("IIQQQQQ", 1, 64, 0, 0, 0, 0, 1 | 1 << 5 | 1 << 6) + bytes(16))
syscall("perf_event_open", room, 0, -1, -1, 0)
""",
        "EPERM",
        (layers.FILTER,),
        kernel_may_refuse="EACCES|ENOSYS",
    ),
    Attempt(
        "kernel/userfaultfd",
        "syscall('userfaultfd', 1)",
        "EPERM",
        (layers.FILTER,),
        kernel_may_refuse="ENOSYS",
    ),
    Attempt(
        "kernel/io-uring",
        "syscall('io_uring_setup', 1, ctypes.create_string_buffer(120))",
        "ENOSYS",
        (layers.FILTER,),
        kernel_may_refuse="EPERM|ENOSYS",
    ),
    Attempt(
        "kernel/vmsplice",
        """
_, pipe = os.pipe()
data = ctypes.create_string_buffer(16)
vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(data), 16))
syscall("vmsplice", pipe, vector, 1, 0)
""",
        "ENOSYS",
        (layers.FILTER,),
    ),
    Attempt("kernel/personality", "call('personality', 0x0400000)", "EPERM", (layers.FILTER,)),
    Attempt(
        "kernel/log", "syscall('syslog', 10, None, 0)", "EPERM", as_root=True, unproven_as_user=_UNPRIVILEGED
    ),
    Attempt("kernel/kexec", "syscall('kexec_load', 0, 0, 0, 0)", "EPERM", unproven=_THE_HOSTS),
    Attempt("kernel/module", "syscall('init_module', 0, 0, b'')", "EPERM", unproven=_THE_HOSTS),
    Attempt("kernel/module-from-file", "syscall('finit_module', 0, b'', 0)", "EPERM", unproven=_THE_HOSTS),
    Attempt("kernel/reboot", "syscall('reboot', 0, 0, 0, None)", "EPERM", unproven=_THE_HOSTS),
    Attempt("kernel/swap", "syscall('swapon', b'/workspace/swap', 0)", "EPERM", unproven=_THE_HOSTS),
    Attempt(
        "kernel/watch-all-files",
        "syscall('fanotify_init', 0x200, 0)",
        "EPERM",
        (layers.FILTER,),
        kernel_may_refuse="EPERM|ENOSYS",
    ),
    Attempt(
        "clock/read-state", "syscall('adjtimex', ctypes.create_string_buffer(512))", "EPERM", (layers.FILTER,)
    ),
    Attempt(
        "clock/set", "time.clock_settime(time.CLOCK_REALTIME, time.time())", "EPERM", unproven=_THE_HOSTS
    ),
    Attempt(
        "host-name/set",
        "socket.sethostname('evil')\nif socket.gethostname() != 'evil': raise Stopped('unchanged')",
        "EPERM",
        (layers.FILTER, layers.NO_ADMIN),
    ),
    Attempt(
        "priority/higher",
        "os.setpriority(os.PRIO_PROCESS, 0, -5)",
        "EACCES|EPERM",
        as_root=True,
        unproven_as_user="only the host's root may",
    ),
    Attempt(
        "priority/real-time",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "EPERM",
        as_root=True,
        unproven_as_user="only the host's root may",
    ),
]

_TERMINAL = """
pid, master = os.forkpty()
if pid == 0:
    try: {ioctl}
    except OSError as error: os._exit(error.errno)
    os._exit(0)
number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
if number: raise OSError(number, "")
"""

TERMINALS = [
    Attempt(
        "terminal/type-into-it",
        _TERMINAL.format(ioctl="fcntl.ioctl(0, 0x5412, b'x')"),
        "EPERM",
        (layers.FILTER,),
        kernel_may_refuse="EIO",
    ),
    Attempt(
        "terminal/paste-into-console",
        _TERMINAL.format(ioctl="fcntl.ioctl(0, 0x541C, b'\\3')"),
        "EPERM",
        (layers.FILTER,),
        proof_says="ENOTTY|EINVAL",  # the terminal's driver was asked, which knows it only of consoles
    ),
    *(
        Attempt(
            f"terminal/{name}",
            _TERMINAL.format(ioctl=f"fcntl.ioctl(0, {request}, 0)"),
            "EPERM",
            (layers.FILTER,),
        )
        for name, request in (("stop-its-output", 0x540A), ("open-it-alone", 0x540C))
    ),
    Attempt(
        "terminal/line-discipline",
        _TERMINAL.format(ioctl="fcntl.ioctl(0, 0x5423, struct.pack('i', 0))"),
        "EPERM",
        (layers.FILTER,),
    ),
]

ATTEMPTS = [
    *ENVIRONMENTS,
    *FILES,
    *WRITES,
    *PROCESSES,
    *NETWORK,
    *IPC,
    *PRIVILEGES,
    *MOUNTS,
    *KERNEL,
    *TERMINALS,
    *SHARED,
]
