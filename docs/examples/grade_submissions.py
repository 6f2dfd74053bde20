"""Grade the submissions of a class, eight at a time, each in a sandbox of its own.

    pip install '.[local]'
    python docs/examples/grade_submissions.py

The submissions are made up here. Some are wrong, some never end, one tries to give itself full marks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sandkasten_sync import ExecTimeoutError, SandboxClient, Session

# The task: add all whole numbers that are arguments, and print the sum.
TESTS: list[tuple[list[str], str]] = [(["1", "2"], "3"), (["-1", "1"], "0"), ([], "0"), (["10"] * 5, "50")]
TIMEOUT_MS = 6_000
CONCURRENCY = 8

RIGHT = "import sys\nprint(sum(map(int, sys.argv[1:])))\n"
SUBMISSIONS = {f"student-{number:02}": RIGHT for number in range(1, 13)} | {
    "student-13": "import sys\nprint(int(sys.argv[1]) + int(sys.argv[2]))\n",
    "student-14": "import sys\nprint(sum(abs(int(word)) for word in sys.argv[1:]))\n",
    "student-15": "import time\nwhile True: time.sleep(1)\n",
    "student-16": "print('3')\n",
    "student-17": "import sys\nprint(sum(sys.argv[1:]))\n",
    "student-18": "print(sum(\n",
    "student-19": "import os, time\nwhile True:\n try: os.fork()\n except OSError: time.sleep(1)\n",
    "student-20": "import pathlib\nfor path in pathlib.Path('/').rglob('*.json'): path.write_text('100')\n",
}


@dataclass(frozen=True)
class Grade:
    """A student's grade, and the reason."""

    student: str
    passed: int
    remark: str


def grade(session: Session, submission: tuple[str, str]) -> Grade:
    """Run a program with each test, in one sandbox that is thrown away."""
    student, program = submission
    passed, remark = 0, ""
    session.write("submission.py", program)
    for words, expected in TESTS:
        try:
            result = session.exec(f"python3 submission.py {' '.join(words)}", timeout_ms=TIMEOUT_MS)
        except ExecTimeoutError:
            return Grade(student, passed, f"still running after {TIMEOUT_MS} ms")
        if result.ok and result.output.strip() == expected:
            passed += 1
        elif not remark:
            last_line = result.output.strip().rpartition("\n")[2]
            remark = f"{' '.join(words) or '(nothing)'} should give {expected}, not {last_line[:60]!r}"
    return Grade(student, passed, remark or "well done")


def main() -> None:
    """Grade all, and print a table and a summary."""
    with SandboxClient() as client:
        grades = client.map(grade, SUBMISSIONS.items(), concurrency=CONCURRENCY)
    for one in grades:
        print(f"{one.student}  {one.passed}/{len(TESTS)}  {one.remark}")
    full_marks = sum(one.passed == len(TESTS) for one in grades)
    print(json.dumps({"graded": len(grades), "full_marks": full_marks}))


if __name__ == "__main__":
    main()
