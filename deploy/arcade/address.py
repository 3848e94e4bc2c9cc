"""Where the page is served and who is let in: loopback, unless another address is asked for twice, with a token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from rl.settings import need

TOKEN_LENGTH = 16  # characters at least


@dataclass(frozen=True)
class WebSettings:
    """The page's address."""

    host: str
    port: int  # 0: any free one
    exposed: bool  # an address that other machines reach may be used
    token: str | None  # asked of every visitor; on loopback it may be left out
    browser: bool  # open one where there is a display

    def __post_init__(self) -> None:
        need(0 <= self.port <= 65535, "play.web.port", self.port, "0 (any free one) to 65535")
        allowed = f"{TOKEN_LENGTH} or more letters and digits, or null on loopback"
        fine = self.token is None or (len(self.token) >= TOKEN_LENGTH and self.token.isalnum() and self.token.isascii())
        need(fine, "play.web.token", self.token, allowed)
        advice = "loopback; another address needs play.web.exposed=true and play.web.token"
        need(self.guarded, "play.web.host", self.host, advice)

    @property
    def guarded(self) -> bool:
        """Whether the address may be served: on loopback, or exposed on purpose and behind a token."""
        return is_loopback(self.host) or (self.exposed and self.token is not None)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_literal(host: str) -> bool:
    """Whether it is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Door:
    """Lets in requests that were meant for this page; `port` as it was bound.

    A page of another site cannot name itself as origin here, and a foreign name that was made to point at this machine
    (DNS rebinding) is not among the hosts.
    """

    host: str
    port: int
    token: str | None

    @property
    def url(self) -> str:
        """What a person opens."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def knows_host(self, header: str) -> bool:
        """Whether a Host header means this page."""
        try:
            parts = urlsplit(f"//{header}")
            name, port = parts.hostname or "", 80 if parts.port is None else parts.port
        except ValueError:
            return False
        if port != self.port or parts.netloc != header or "@" in header:
            return False
        if is_loopback(self.host):
            return is_loopback(name)
        anywhere = is_literal(self.host) and ipaddress.ip_address(self.host).is_unspecified
        return name == self.host.lower() or (anywhere and (is_literal(name) or is_loopback(name)))

    def knows_origin(self, header: str) -> bool:
        """Whether an Origin header is this page's own."""
        scheme, _, rest = header.partition("://")
        return scheme == "http" and self.knows_host(rest)

    def knows_token(self, given: str) -> bool:
        """Whether the token is right; any is, where none is asked for."""
        return self.token is None or hmac.compare_digest(self.token.encode(), given.encode("utf-8", "replace"))


class Bucket:
    """Lets so many messages a second pass, and a burst at once."""

    def __init__(self, per_s: float, burst: float, now: Callable[[], float]) -> None:
        self._per_s, self._burst, self._now = per_s, burst, now
        self._left, self._seen_s = burst, now()

    def take(self) -> bool:
        """Whether one more may pass now."""
        now_s = self._now()
        self._left = min(self._burst, self._left + self._per_s * (now_s - self._seen_s))
        self._seen_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
