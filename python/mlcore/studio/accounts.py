"""Who may come in: passwords, browsers that are logged in, tokens of programs."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select

from mlcore.errors import Error, InvalidArgument
from mlcore.studio.settings import Limits
from mlcore.studio.store import Login, Store, Token, User

__all__ = ["LOCAL", "Accounts", "TooManyLogins"]

LOCAL = "local"
"""Name of the one user of a studio without logins."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHORTEST = 10
_DAYS = 14 * 86400.0  # a browser that is not seen so long is logged out
_WINDOW = 300.0  # seconds in which failed logins count
_REMEMBERED = 10_000  # names and addresses
_EVERYWHERE = 10  # times as many of a name from all addresses, so that nobody is locked out by one
_AT_ONCE = threading.BoundedSemaphore(2)  # a hash takes 64 MiB


class TooManyLogins(Error):
    """Somebody tries passwords."""


class Accounts:
    """Users of a store."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store, self._limits = store, limits
        self._hasher = PasswordHasher()
        # of nobody: a name that is not there takes as long as a wrong password
        self._decoy = self._hasher.hash(secrets.token_hex(16))
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    # -- users -------------------------------------------------------------------------------------
    def add(self, name: str, password: str | None, admin: bool = False) -> User:
        """A new user.

        Raises:
            InvalidArgument: the name is taken or none, or the password is too short.
        """
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"name: {name!r}; letters, digits and . _ @ - make a name, up to 64 of them"
            )
        hashed = None if password is None else self._hashed(password)
        with self._store.session() as session:
            if session.scalar(select(User).where(User.name == name)) is not None:
                raise InvalidArgument(f"name: there is a user {name} already")
            user = User(name=name, password=hashed, admin=admin)
            session.add(user)
        return user

    def local(self) -> User:
        """The one user of a studio without logins."""
        return self.named(LOCAL) or self.add(LOCAL, None, admin=True)

    def named(self, name: str) -> User | None:
        with self._store.session() as session:
            return session.scalar(select(User).where(User.name == name))

    def everybody(self) -> list[User]:
        """By name."""
        with self._store.session() as session:
            return list(session.scalars(select(User).order_by(User.name)))

    def change_password(self, user: User, password: str, keep: Login | None = None) -> None:
        """Set another password; all browsers but ``keep``'s are logged out."""
        hashed = self._hashed(password)
        with self._store.session() as session:
            session.merge(user).password = hashed
            others = delete(Login).where(Login.user_id == user.id)
            session.execute(others if keep is None else others.where(Login.key != keep.key))

    def remove(self, user: User) -> None:
        """Of the user only: folders and tasks are the caller's."""
        with self._store.session() as session:
            session.execute(delete(User).where(User.id == user.id))

    def _hashed(self, password: str) -> str:
        if not _SHORTEST <= len(password) <= 1000:
            raise InvalidArgument(f"password: must have {_SHORTEST} characters or more")
        with _AT_ONCE:
            return self._hasher.hash(password)

    # -- browsers ----------------------------------------------------------------------------------
    def check(self, name: str, password: str, address: str) -> User | None:
        """The user with this password; None where there is none.

        Raises:
            TooManyLogins: too many failed of late, of this name or from this address.
        """
        marks = {f"from {_network(address)}": 1, f"name {name[:64]}": _EVERYWHERE}
        user = self.named(name)
        hashed = user.password if user is not None and user.password else self._decoy
        try:
            with _AT_ONCE:
                self._may_try(marks)
                self._hasher.verify(hashed, password[:1000])
        except (VerificationError, InvalidHashError):
            user = None
        if user is None or hashed is self._decoy:
            return None
        self._forgive(marks)
        return user

    def _may_try(self, marks: Mapping[str, int]) -> None:
        """Count a try as failed, until it is known that it is not: several come at once."""
        now = time.monotonic()
        with self._lock:
            for mark, times in marks.items():
                tries = self._failed.get(mark, deque())
                while tries and now - tries[0] > _WINDOW:
                    tries.popleft()
                if len(tries) >= times * self._limits.logins:
                    raise TooManyLogins("too many failed logins; wait some minutes")
            for mark in marks:
                self._failed.setdefault(mark, deque()).append(now)
                self._failed.move_to_end(mark)
            while len(self._failed) > _REMEMBERED:
                self._failed.popitem(last=False)

    def _forgive(self, marks: Mapping[str, int]) -> None:
        with self._lock:
            for mark in marks:
                if self._failed.get(mark):
                    self._failed[mark].pop()

    def log_in(self, user: User) -> str:
        """What a browser shall keep as a cookie."""
        cookie = secrets.token_urlsafe(32)
        with self._store.session() as session:
            session.execute(delete(Login).where(Login.seen < time.time() - _DAYS))
            session.add(Login(key=_digest(cookie), user_id=user.id))
        return cookie

    def of_cookie(self, cookie: str) -> tuple[User, Login] | None:
        """Whose browser it is."""
        with self._store.session() as session:
            found = session.execute(
                select(User, Login).join(Login).where(Login.key == _digest(cookie))
            ).first()
            if found is None or found[1].seen < time.time() - _DAYS:
                return None
            user, login = found
            if time.time() - login.seen > 60:
                login.seen = time.time()
            return user, login

    def log_out(self, login: Login) -> None:
        with self._store.session() as session:
            session.execute(delete(Login).where(Login.key == login.key))

    # -- programs ----------------------------------------------------------------------------------
    def make_token(self, user: User, title: str) -> tuple[Token, str]:
        """A token and its words, which nobody can find out again."""
        words = "mlcore_" + secrets.token_urlsafe(32)
        token = Token(key=_digest(words), user_id=user.id, title=title[:200])
        with self._store.session() as session:
            session.add(token)
        return token, words

    def of_token(self, words: str) -> User | None:
        """Whose program it is."""
        with self._store.session() as session:
            found = session.execute(
                select(User, Token).join(Token).where(Token.key == _digest(words))
            ).first()
            if found is None:
                return None
            user, token = found
            if token.used is None or time.time() - token.used > 60:
                token.used = time.time()
            return user

    def tokens(self, user: User) -> list[Token]:
        with self._store.session() as session:
            return list(session.scalars(select(Token).where(Token.user_id == user.id)))

    def drop_token(self, user: User, token: str) -> bool:
        """False where the user has no such token."""
        with self._store.session() as session:
            found = session.scalar(select(Token).where(Token.id == token, Token.user_id == user.id))
            if found is not None:
                session.delete(found)
            return found is not None


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()


def _network(address: str) -> str:
    """What one machine may choose its addresses from: of IPv6 the network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        own = found.ipv4_mapped
        return str(own or ipaddress.ip_network((found, 64), strict=False))
    return address
