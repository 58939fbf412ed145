"""One question to a DNS server, to see that it answers."""

import secrets
import socket
import struct

_HEADER = struct.Struct(">HHHHHH")
_RECURSION_DESIRED = 0x0100
_ADDRESS_IN_INTERNET = struct.pack(">HH", 1, 1)
_RESPONSE_CODE = 0x000F
_LARGEST = 512


def resolves(server: str, name: str, *, within: float = 1.0) -> bool:
    """Whether ``server`` has an address for ``name``."""
    identity = secrets.randbits(16)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
            question.settimeout(within)
            question.connect((server, 53))
            question.send(query(identity, name))
            return has_answer(identity, question.recv(_LARGEST))
    except OSError:
        return False


def query(identity: int, name: str) -> bytes:
    """A question for the IPv4 addresses of ``name``."""
    labels = (label.encode() for label in name.split("."))
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEADER.pack(identity, _RECURSION_DESIRED, 1, 0, 0, 0) + encoded + _ADDRESS_IN_INTERNET


def has_answer(identity: int, message: bytes) -> bool:
    """Whether ``message`` answers question ``identity`` with at least one record."""
    if len(message) < _HEADER.size:
        return False
    answered, flags, _, answers, _, _ = map(int, _HEADER.unpack_from(message))
    return answered == identity and flags & _RESPONSE_CODE == 0 and answers > 0
