"""Goes on for ever after its first thread has ended, which makes it look dead; ignores SIGINT and SIGTERM.

It holds a lock on the file `lock` as long as it lives.
"""

import ctypes
import fcntl
import os
import signal
import threading
import time
from pathlib import Path

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
lock = os.open("lock", os.O_CREAT | os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)


def work() -> None:
    while "\nState:\tZ" not in Path("/proc/self/status").read_text():
        time.sleep(0.01)
    Path("headless").touch()
    while True:
        time.sleep(60)


threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
