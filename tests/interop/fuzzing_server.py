"""The fuzzing server of the conformance cases: kosoku with its own arguments, and one fault of it mended.

A message that its client has not compressed comes to the cases as a str of Latin-1. Those on compression want bytes, and
end in an error over anything else, although any message may go out as it is (RFC 7692, section 6)."""

from kosoku import _caseindex, _cli

_caseindex.initialize_shims()

import case12_x_x  # noqa: E402: found through the shims


def with_bytes(on_message):
    def call(case, message, binary):
        on_message(case, message.encode("latin-1") if isinstance(message, str) else message, binary)

    return call


for case in case12_x_x.Case12_X_X + case12_x_x.Case13_X_X:
    case.onMessage = with_bytes(case.onMessage)

_cli.main()
