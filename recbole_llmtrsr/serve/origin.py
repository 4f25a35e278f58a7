"""Where a request comes from: this machine, a proxy, or a page of another site."""

from __future__ import annotations

from collections.abc import Mapping

from recbole_llmtrsr.runtime.network import is_loopback

_OF_PROXIES = (b"forwarded", b"via", b"x-real-ip")


def refusal(headers: Mapping[bytes, bytes], only_loopback: bool) -> str | None:
    """Why a request may not be asked from where it comes; None where it may.

    Args:
        headers: their names in lower case.
        only_loopback: no token is asked for, so that whoever can send a request is answered.

    >>> refusal({b"host": b"127.0.0.1:8000"}, only_loopback=True)
    >>> refusal({b"host": b"example.org"}, only_loopback=True)
    'this server answers to loopback names alone, such as 127.0.0.1'
    """
    if headers.get(b"sec-fetch-site", b"").strip().lower() == b"cross-site":
        return "Sec-Fetch-Site is cross-site: pages of other sites may not ask; ask from a program, or from a server"
    if not only_loopback:
        return None
    if not is_loopback(_host_of(headers.get(b"host", b"").decode("latin-1"))):
        return "this server answers to loopback names alone, such as 127.0.0.1"
    for name in headers:
        if name in _OF_PROXIES or name.startswith(b"x-forwarded-"):
            return (
                f"a proxy forwarded this request (header {name.decode('latin-1')[:60]}), and this server asks for no"
                " token: start it with one in the environment variable that --token_variable names, or ask it directly"
            )
    return None


def _host_of(header: str) -> str:
    """The host of a Host header, without its port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
