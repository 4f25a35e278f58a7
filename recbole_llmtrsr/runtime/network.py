"""Route of an HTTP request: direct to this machine, or through a proxy of the environment."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_OF_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_OF_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def is_loopback(host: str) -> bool:
    """Whether a host name or address refers to this machine only.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org", "")]
    [True, True, True, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_of(url: str) -> str | None:
    """The environment variable, with its value, that sets the proxy for a URL; None without a proxy."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    scheme = next((name for name in (parts.scheme, "all") if getproxies().get(name)), None)
    return None if scheme is None else ", ".join(_set((f"{scheme.upper()}_PROXY",))) or "the system's settings"


def variables(error: Exception) -> str:
    """The environment variables, with their values, that may have caused an error of the HTTP client."""
    names = _OF_CERTIFICATES if isinstance(error, OSError) else _OF_PROXIES
    return ", ".join(_set(names)) or " or ".join(names)


def _set(names: tuple[str, ...]) -> list[str]:
    """'NAME=value' for the variables that are set, in upper or lower case; passwords are hidden."""
    found = [(name, os.environ.get(name)) for upper in names for name in (upper.lower(), upper)]
    return [f"{name}={_shown(value)}" for name, value in found if value]


def _shown(value: str) -> str:
    """A value without name and password.

    >>> _shown("http://me:hush@proxy:3128"), _shown("me:hush@proxy:3128"), _shown("localhost,.example.org")
    ('http://proxy:3128', 'proxy:3128', 'localhost,.example.org')
    """
    scheme, separator, rest = value.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
