"""Does not hear what is sent to it: the arguments name the signals. Says `deaf` and goes on for ever."""

import signal
import sys

for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
print("deaf", flush=True)
while True:
    signal.pause()
