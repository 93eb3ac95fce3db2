"""Opens and closes databases with the extension: lines.py EXTENSION COUNT STATEMENT..."""

import sqlite3
import sys
import threading
import time
from pathlib import Path

extension, count, statements = sys.argv[1], int(sys.argv[2]), sys.argv[3:]


def lines():
    """The threads of the library."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text())
        except OSError:
            pass  # It has ended.
    return [name for name in names if name.startswith("tautline")]


def use():
    database = sqlite3.connect(":memory:")
    database.enable_load_extension(True)
    database.load_extension(extension)
    rows = [database.execute(statement).fetchall() for statement in statements]
    assert rows[1] == [(1, "from SQL", 0)] and rows[3] == [(1, "0001", 1)], rows
    assert lines()
    database.close()


for at in range(count):
    if at % 2:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    else:
        use()
    # The system lists a thread that was joined for some ms.
    until = time.monotonic() + 5
    while lines() and time.monotonic() < until:
        time.sleep(0.001)
    assert not lines(), lines()
print(f"{count} databases opened and closed; no thread of a line is left")
