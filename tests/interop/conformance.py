#!/usr/bin/env python3
"""conformance.py NAME REPORTS...: what the fuzzing server's reports say of the client, and whether that is good enough.

Every case must be there once, and none may fail. The close codes are looked at here, too, since a missing one fails no
case: whoever is sent what breaks the protocol answers 1002, and 1007 where text is not UTF-8 (RFC 6455, sections 7.4.1 and
8.1). Cases of an extension that was not agreed on count as not done. Only those may be so that want a window size in the
offer, which the client never makes."""

import collections
import json
import sys

COUNT = 517
PROTOCOL = ("2.5", "3.", "4.", "5.1", "5.2", "5.9", "5.10", "5.11", "5.12", "5.13", "5.14", "5.15", "5.16", "5.17", "5.18", "7.3.2", "7.9.")
NOT_UTF8 = ("6.3.", "6.4.", "6.6.1", "6.8.", "6.10.", "6.11.5", "6.14.", "6.15.", "6.16.", "6.18.", "6.19.", "6.21.", "7.5.1")
WINDOWS = ("13.3.", "13.4.", "13.5.", "13.6.")


def key(case):
    return [int(part) for part in case.split(".")]


reports = [cases for path in sys.argv[2:] for cases in json.load(open(path)).values()]
cases = {name: case for report in reports for name, case in report.items()}
failed = abs(COUNT - len(cases))
print(sys.argv[1], len(cases), "of", COUNT, "cases:", dict(collections.Counter(case["behavior"] for case in cases.values())))
for name in sorted(cases, key=key):
    case = cases[name]
    behavior, close, code = case["behavior"], case["behaviorClose"], case["remoteCloseCode"]
    if behavior == "UNIMPLEMENTED" and name.startswith(WINDOWS):
        continue
    wanted = 1002 if name.startswith(PROTOCOL) else 1007 if name.startswith(NOT_UTF8) else None
    # A case in which the server only looks on ends with its own 1000.
    wrong_code = wanted is not None and code not in (wanted, 1000)
    bad = behavior not in ("OK", "NON-STRICT", "INFORMATIONAL") or close in ("FAILED", "WRONG CODE") or wrong_code
    failed += bad
    if bad or behavior != "OK" or close != "OK":
        print(" ", name, behavior, "close:", close, "code:", code, f"(wanted {wanted})" if wrong_code else "")
print("failed:", failed)
sys.exit(1 if failed else 0)
