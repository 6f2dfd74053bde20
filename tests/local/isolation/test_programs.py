"""Programs that people expect to work, each in a session: what sandboxes do not have must not be missed.

`test_sandbox` has pip and npm, `test_seccomp` the parts of Python and what needs the filter only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from tests.local.box import Box

_PATH = "/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin"
_C = '#include <stdio.h>\\nint main(void) { puts("ok"); }\\n'

# What it needs, and a script whose last line of output is "ok".
PROGRAMS = {
    "gcc and make": (
        "gcc make",
        f"""printf '{_C}' >m.c; printf 'm: m.c\\n\\tgcc -O2 -pthread -o m m.c\\n' >Makefile
        make -s -j2 && ./m""",
    ),
    "gdb, looking at a program": (
        "gcc gdb",
        f"""printf '{_C}' >m.c; gcc -g -o m m.c && gdb -nx -batch -ex 'info line main' ./m && echo ok""",
    ),
    "git": (
        "git",
        """git init -q r && cd r && git config user.name n && git config user.email e
        for i in 1 2 3; do echo $i >$i; git add .; git commit -qm $i; done
        git worktree add -q ../w && git gc -q --prune=now && git clone -q . ../s && git -C ../s fsck --full
        git stash -q; git rebase -q HEAD~1; git status --porcelain && echo ok""",
    ),
    "copies with all attributes": (
        "cp tar",
        """mkdir -p d/e; echo ok >d/e/f; ln -s f d/e/l; mkfifo d/p; chmod 750 d/e; chmod 600 d/e/f
        cp -a d c && cp --preserve=all -r d b && mv d /tmp/moved && tar --xattrs --acls -cf a.tar c
        install -D -m 640 c/e/f i/f && tar --xattrs --acls -C /tmp -xf a.tar && cat /tmp/c/e/l""",
    ),
    "SQLite with a log": (
        "sqlite3",
        """sqlite3 a.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1);'
        (sqlite3 a.db 'BEGIN IMMEDIATE; INSERT INTO t VALUES (2); COMMIT;') & wait
        sqlite3 a.db 'SELECT "ok" FROM t WHERE x = 2; VACUUM; PRAGMA integrity_check;'""",
    ),
    "PostgreSQL": (
        "initdb pg_ctl psql",
        """initdb -D /tmp/pg -A trust >/dev/null
        pg_ctl -D /tmp/pg -w -s -l /tmp/pg.log -o "-k /tmp -c listen_addresses=''" start
        psql -h /tmp -d postgres -Atc 'CREATE TABLE t AS SELECT generate_series(1, 9999) x; CHECKPOINT;'
        psql -h /tmp -d postgres -Atc "SELECT 'ok' FROM t HAVING count(*) = 9999"
        pg_ctl -D /tmp/pg -w -s -m fast stop && echo ok || cat /tmp/pg.log""",
    ),
    "tmux": (
        "tmux",
        """tmux -f /dev/null -S /tmp/t new-session -d cat && tmux -S /tmp/t send-keys ok Enter
        until tmux -S /tmp/t capture-pane -p | grep -x ok; do :; done; tmux -S /tmp/t kill-server""",
    ),
    "node with threads and watched files": (
        "node",
        """node -e '
        const fs = require("fs"), { Worker } = require("worker_threads");
        const watcher = fs.watch(".", () => {
            watcher.close();
            new Worker("require(`worker_threads`).parentPort.postMessage(`ok`)", { eval: true })
                .on("message", said => console.log(said));
        });
        fs.writeFileSync("new", "");'""",
    ),
    "java": (
        "java",
        """cat >M.java <<< 'public class M { public static void main(String[] a) throws Exception {
        var thread = new Thread(() -> System.out.println(Runtime.getRuntime().totalMemory() > 0 ? "ok" : ""));
        thread.start(); thread.join(); } }'
        for home in /usr/lib/jvm/*; do # Debian's own has a part of itself in /etc, which is not the image's
          if [[ -e $home/conf/security/java.security ]]; then $home/bin/java M.java; break; fi
        done || true; [[ -e $home/conf/security/java.security ]] || { java -version && echo ok; }""",
    ),
    # A whole build compiles the runtime first, which takes half a minute of processor time.
    "go, its compiler": (
        "go",
        """export PATH=/usr/local/go/bin:$PATH GOTOOLCHAIN=local GOPROXY=off
        printf 'module m\\n' >go.mod; printf 'package m\\n\\nfunc F() int { return 1 }\\n' >m.go
        go list . && go tool compile -p m -o m.o m.go && grep -q go m.o && echo ok""",
    ),
    "ssh-keygen": ("ssh-keygen", "ssh-keygen -q -t ed25519 -N '' -f k && ssh-keygen -lf k.pub && echo ok"),
    "man": ("man", "printf '.TH A 1\\n.SH NAME\\nok\\n' >a.1; man -C /dev/null ./a.1 2>&1 | grep -ow ok"),
    "perl with locks": (
        "perl",
        """perl -MFcntl=:flock -e '
        open(F, ">f"); flock(F, LOCK_EX) or die; fork or exit; wait; print "ok\\n"'""",
    ),
    "sizes of pipes and priorities": (
        "python3 ionice nice prlimit",
        """python3 -c 'import fcntl, os; r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 18)
assert fcntl.fcntl(w, fcntl.F_DUPFD_CLOEXEC, 50) >= 50'
        ionice -c 3 nice prlimit --nofile=99 sh -c 'test $(ulimit -n) = 99' && echo ok""",
    ),
}


def _where(program: str) -> str | None:
    return shutil.which(program, path=f"{_PATH}:/usr/lib/postgresql/15/bin")


@pytest.mark.parametrize("what", PROGRAMS)
def test_it_works(make_box: Callable[..., Box], what: str) -> None:
    programs, script = PROGRAMS[what]
    missing = [program for program in programs.split() if _where(program) is None]
    if missing:
        pytest.skip(f"this machine has no {' and no '.join(missing)}")
    result = make_box().exec(f"cd /workspace\n{script}", timeout_ms=25_000)
    assert (result["exit_code"], result["output"].split()[-1:]) == (0, ["ok"]), result["output"]
