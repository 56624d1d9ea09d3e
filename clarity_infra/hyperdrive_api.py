"""What does Cloudflare say of the Hyperdrive config, and how is its origin changed in place?

The official SDK is used for what the Pulumi plugin cannot do: to look at preview, and to switch the origin at the moment the
cut-over asks for it. The API connects to an origin before it accepts it and never gives a password back.
https://developers.cloudflare.com/api/resources/hyperdrive/subresources/configs/
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import cloudflare

from clarity_infra.cloudflare_client import client, impatient_client
from clarity_infra.errors import ClarityError, ConfigurationError, Unreachable

# The API tests the origin before it answers; its own limit for that is 15 s. (Hyperdrive's limits page)
_TIMEOUT = 40.0
_RETRIES = 2
# Nothing depends on a pool that is drained: it only spares the application some refusals.
_RESTART_TIMEOUT = 10.0

# PostgreSQL's port, which the API leaves out where it is the default.
DEFAULT_PORT = 5432

# A token that cannot be one, such as a text with a line's end, is answered with status 400 and this code: "Invalid request headers".
_MALFORMED_TOKEN = "6003"

# How long (seconds) an answer is fresh, and may be given on while it is renewed, where a config does not say.
_CACHE_TIMES = {"max_age": 60, "stale_while_revalidate": 15}

# An ID no config has: what a write to it is answered tells whether the token may write, and nothing can change.
_NO_CONFIG = "0" * 32


@dataclasses.dataclass(frozen=True)
class Origin:
    """The database a Hyperdrive config sends the application to, and the way there.

    One of three: a public `host` and `port`; a `host` behind Cloudflare Access (`access_client_id` and its secret, no port); or a
    Workers VPC service (`service_id`, neither host nor port). `aliases` are other logins of the same application: a rotation of the
    password takes turns.
    """

    host: str
    port: int | None
    database: str
    user: str
    password: str = dataclasses.field(repr=False)
    scheme: str = "postgres"
    access_client_id: str = ""
    access_client_secret: str = dataclasses.field(default="", repr=False)
    service_id: str = ""
    aliases: tuple[str, ...] = ()

    def same_place(self, other: dict[str, Any]) -> bool:
        """Whether a config's `origin`, as the API shows it, is this one. Secrets, which it never shows, are not compared."""
        ours = _way({key: value for key, value in self.parameters().items() if value})
        return (ours, self.database) == (_way(other), other.get("database")) and other.get("user") in (self.user, *self.aliases)

    def parameters(self) -> dict[str, Any]:
        """As the API takes it: holds the password."""
        login = {"database": self.database, "user": self.user, "password": self.password, "scheme": self.scheme}
        if self.service_id:
            return {**login, "service_id": self.service_id}
        if self.access_client_id:
            secret = self.access_client_secret
            return {**login, "host": self.host, "access_client_id": self.access_client_id, "access_client_secret": secret}
        return {**login, "host": self.host, "port": self.port or DEFAULT_PORT}

    @classmethod
    def from_json(cls, text: str) -> Origin:
        """From the fields the API takes, as JSON text."""
        return cls(**{"host": "", "port": None, **json.loads(text)})

    def label(self) -> str:
        """Where it is, for messages."""
        if self.service_id:
            return f"{self.database} by Workers VPC service {self.service_id}"
        if self.access_client_id:
            return f"{self.host}/{self.database} through Cloudflare Access"
        return f"{self.host}:{self.port or DEFAULT_PORT}/{self.database}"


def _way(origin: dict[str, Any]) -> tuple[Any, ...]:
    """How an origin is reached. Of Access the host alone counts: the client's ID is half of a credential, and may be rotated."""
    if origin.get("service_id"):
        return ("service", origin["service_id"])
    if origin.get("access_client_id"):
        return ("access", origin.get("host"))
    return ("public", origin.get("host"), int(origin.get("port") or DEFAULT_PORT))


class UnknownConfig(ConfigurationError):
    """Cloudflare does not know the config, or anything else that was asked for."""


class Hyperdrive:
    """One account's Hyperdrive configs. `patience`: seconds an answer may take, asked once; left out, as long as a write may take."""

    def __init__(self, account: str, token: str, base_url: str | None = None, *, patience: float | None = None) -> None:
        self._account = account
        if patience is None:
            self._client = client(token, base_url, timeout=_TIMEOUT, retries=_RETRIES)
        else:
            self._client = impatient_client(token, base_url, patience=patience)

    def get(self, config: str) -> dict[str, Any]:
        """The config as the API shows it. Raises ConfigurationError where it does not exist or the token may not read it."""
        with self._errors(f"Hyperdrive config {config}"):
            found = self._client.hyperdrive.configs.get(config, account_id=self._account)
        return _plain(found)

    def is_gone(self, config: str) -> bool:
        """Whether there is no such config. Raises as `get`, where that cannot be known."""
        try:
            self.get(config)
        except UnknownConfig:
            return True
        return False

    def named(self, name: str) -> dict[str, Any] | None:
        """The config of that name, or None. Raises as `get`."""
        with self._errors(f"the Hyperdrive configs of account {self._account}"):
            for found in self._client.hyperdrive.configs.list(account_id=self._account):
                if found.name == name:
                    return _plain(found)
        return None

    def check_may_write(self) -> None:
        """Raises ConfigurationError where the token may not write; tries with an ID that no config has, so nothing changes."""
        try:
            self._client.with_options(max_retries=0).hyperdrive.configs.edit(_NO_CONFIG, account_id=self._account, name="x")
        except cloudflare.PermissionDeniedError:
            raise ConfigurationError(
                "The Cloudflare API token may read Hyperdrive, but not write.",
                unchanged="Nothing was changed.",
                remedy="give the token the permission Account > Hyperdrive > Edit.",
            ) from None
        except cloudflare.CloudflareError:
            return  # not found, as it must be; any other trouble shows where it matters

    def put_origin(self, config: dict[str, Any], origin: Origin, *, mtls: dict[str, Any] | None = None) -> None:
        """Changes the origin of `config`, and how it is verified where `mtls` is given; keeps everything else it has. Raises as `get`."""
        body: dict[str, Any] = {"name": config["name"], "origin": origin.parameters(), "caching": config.get("caching") or {}}
        verified = config.get("mtls") if mtls is None else mtls
        if verified:
            body["mtls"] = verified
        if config.get("origin_connection_limit"):
            body["origin_connection_limit"] = config["origin_connection_limit"]
        with self._errors(f"the origin of Hyperdrive config {config['id']}"):
            self._client.hyperdrive.configs.update(config["id"], account_id=self._account, **body)

    def restart(self, config: str) -> None:
        """Drains the config's pool of connections and begins a new one, changing nothing else; asked once. Raises as `get`.

        https://developers.cloudflare.com/api/resources/hyperdrive/subresources/configs/methods/restart
        """
        with self._errors(f"the connections of Hyperdrive config {config}"):
            once = self._client.with_options(timeout=min(_TIMEOUT, _RESTART_TIMEOUT), max_retries=0)
            once.hyperdrive.configs.restart(config, account_id=self._account)

    def put_caching(self, config: str, caching: Any) -> None:
        """Changes the config's caching alone. Raises as `get`."""
        with self._errors(f"the cache of Hyperdrive config {config}"):
            self._client.hyperdrive.configs.edit(config, account_id=self._account, caching=caching)

    def proves(self, origin: Origin, name: str, mtls: dict[str, Any] | None = None, *, which: str = "new") -> str:
        """Lets Cloudflare connect to `origin`, the `which` one, by a config made for it and thrown away; says what came of it.

        Raises ConfigurationError where Cloudflare cannot connect. A quota that leaves no room is no error: the sentence returned says so.
        """
        body: dict[str, Any] = {"mtls": mtls} if mtls else {}
        left = self.named(name)
        if left is not None:  # by a run that died right here
            self._throw_away(left["id"])
        try:
            made = self._client.with_options(max_retries=0).hyperdrive.configs.create(
                account_id=self._account,
                name=name,
                origin=origin.parameters(),
                caching={"disabled": True},
                **body,
            )
        except cloudflare.APIStatusError as error:
            if _is_quota(error):
                return "not tried: the account has no room for another Hyperdrive config"
            raise self._told(error, f"a connection to the {which} origin {origin.label()}") from None
        except cloudflare.APIConnectionError:
            raise self._unreachable() from None
        self._throw_away(str(made.id))
        return f"Cloudflare connected to the {which} origin"

    def _throw_away(self, config: str) -> None:
        # Not there is as good: a request that is repeated, its first answer lost, finds nothing any more.
        with self._errors(f"the throw-away Hyperdrive config {config}"), suppress(cloudflare.NotFoundError):
            self._client.hyperdrive.configs.delete(config, account_id=self._account)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except cloudflare.APIStatusError as error:
            raise self._told(error, what) from None
        except cloudflare.APIConnectionError:
            raise self._unreachable() from None

    def _unreachable(self) -> ClarityError:
        return Unreachable("Cloudflare's API cannot be reached.", remedy="run the same command again when it can.")

    def _told(self, error: cloudflare.APIStatusError, what: str) -> ClarityError:
        """The API's own words, which never hold a password, with what they are about."""
        text = "; ".join(_messages(error)) or f"status {error.status_code}"
        if isinstance(error, cloudflare.AuthenticationError) or _MALFORMED_TOKEN in text:
            return ConfigurationError(
                f"Cloudflare does not accept the API token ({text}).",
                unchanged="Nothing was changed.",
                remedy="set CLOUDFLARE_API_TOKEN to a token with Account > Hyperdrive > Edit.",
            )
        if isinstance(error, cloudflare.PermissionDeniedError):
            return ConfigurationError(
                f"The Cloudflare API token may not do this: {what} ({text}).",
                unchanged="Nothing was changed.",
                remedy="give the token the permission Account > Hyperdrive > Edit.",
            )
        if isinstance(error, cloudflare.NotFoundError):
            return UnknownConfig(
                f"Cloudflare does not know {what} in account {self._account} ({text}).",
                unchanged="Nothing was changed.",
                remedy="correct hyperdriveId and cloudflareAccountId; `npx wrangler hyperdrive list` shows them.",
            )
        if error.status_code >= 500 or error.status_code == 429:
            return Unreachable(f"Cloudflare's API did not do it: {what} ({text}).", remedy="run the same command again.")
        return ConfigurationError(f"Cloudflare refused: {what} ({text}).", remedy="correct what it names, then run the same command again.")


@dataclasses.dataclass(frozen=True)
class OriginSwitch:
    """Sends the application to one side or the other by the origin of one Hyperdrive config (the cut-over's `Switch`).

    `cache_seconds`: how long the cache has to be off before a switch. `source_mtls`, `target_mtls`: how each origin's certificate is
    verified; None leaves that as the config has it.
    """

    api: Hyperdrive
    config: str
    name: str
    source: Origin
    target: Origin
    cache_seconds: float
    say: Callable[[str], None]
    source_mtls: dict[str, Any] | None = None
    target_mtls: dict[str, Any] | None = None

    def _config(self) -> dict[str, Any]:
        if self.config:
            return self.api.get(self.config)
        found = self.api.named(self.name)
        if found is None:
            raise ConfigurationError(f"There is no Hyperdrive config {self.name}.", remedy="run `pulumi up` at stage provision.")
        return found

    def where(self) -> Literal["source", "target", "unmanaged"]:
        """`source` or `target`, asked afresh. Raises ClarityError where the origin is neither, Unreachable where it cannot be known."""
        config = self._config()
        origin = config.get("origin") or {}
        if self.target.same_place(origin):
            return "target"
        if self.source.same_place(origin):
            return "source"
        raise ConfigurationError(
            f"Hyperdrive config {config['id']} points at database {origin.get('database')} on {_shown_way(origin)} as {origin.get('user')}: "
            "neither the old nor the new one.",
            unchanged="Nothing was changed.",
            remedy="put the origin back in the dashboard, or run `pulumi up` at the stage it was at.",
        )

    def prepare(self) -> str:
        """Before a cut-over: the cache off for long enough, and the new origin within Cloudflare's reach. Says what it found."""
        config = self._config()
        if self._cache_off(config):
            config = self._config()
        self._wait_for_cache(self.cache_seconds - _age(config.get("modified_on")))
        verified = config.get("mtls") if self.target_mtls is None else self.target_mtls
        return self.api.proves(self.target, self._reach_name(config), verified)

    def prove_way_back(self) -> None:
        """Before the new side is closed: the old origin is within Cloudflare's reach, its login accepted. Raises ClarityError.

        Found out any later, the application would be left on a side that takes no writes.
        """
        config = self._config()
        verified = config.get("mtls") if self.source_mtls is None else self.source_mtls
        try:
            self.api.proves(self.source, self._reach_name(config), verified, which="old")
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The way back leads to an origin that Cloudflare cannot use: {error.what}",
                unchanged="Nothing was changed.",
                remedy="if its password was changed since, name the present one: `pulumi config set --secret clarity-infra:originPassword`, then"
                " `pulumi up`, which `pulumi destroy` needs before it too.",
            ) from None

    def _reach_name(self, config: dict[str, Any]) -> str:
        return f"{self.name[:40]}-reach-{config['id'][:8]}"

    def quiet_cache(self) -> None:
        """Before the way back: a cache that is on, as after a clean-up that was taken back, is switched off, and waited for.

        One that is off already has been so since before the cut-over, whose change of origin is the newest the config tells of.
        """
        if self._cache_off(self._config()):
            self._wait_for_cache(self.cache_seconds)

    def _cache_off(self, config: dict[str, Any]) -> bool:
        """Whether it was on."""
        if (config.get("caching") or {}).get("disabled"):
            return False
        self.say("switching Hyperdrive's cache off")
        self.api.put_caching(config["id"], {"disabled": True})
        return True

    def _wait_for_cache(self, seconds: float) -> None:
        if seconds > 0:
            self.say(f"waiting {seconds:.0f} s until no answer of Hyperdrive's cache can be in use")
            time.sleep(seconds)

    def to_target(self) -> None:
        self.api.put_origin(self._config(), self.target, mtls=self.target_mtls)

    def to_source(self) -> None:
        self.api.put_origin(self._config(), self.source, mtls=self.source_mtls)

    def drop_old_connections(self) -> bool:
        """Has Hyperdrive give up its connections to the former origin, which a change of origin leaves open for minutes. Best effort."""
        with suppress(ClarityError):
            self.api.restart(self._config()["id"])
            return True
        return False

    def put_caching_back(self, caching: dict[str, Any]) -> None:
        """Gives the config the caching it had before the move. Raises ClarityError."""
        config = self._config()
        now = config.get("caching") or {}
        if any(now.get(key) != value for key, value in caching.items()):
            self.say("switching Hyperdrive's cache back to what it was")
            self.api.put_caching(config["id"], caching)


def longest_stale(caching: dict[str, Any]) -> float:
    """Seconds that an answer of the cache can be old, by the config's own times or the default ones; 0 where nothing is cached.

    https://developers.cloudflare.com/hyperdrive/concepts/query-caching/
    """
    if caching.get("disabled"):
        return 0.0
    given = {key: caching.get(key) for key in _CACHE_TIMES}
    return float(sum(seconds if (told := given[key]) is None else int(told) for key, seconds in _CACHE_TIMES.items()))


def _shown_way(origin: dict[str, Any]) -> str:
    return str(origin.get("host") or f"Workers VPC service {origin.get('service_id')}")


@dataclasses.dataclass(frozen=True)
class NoSwitch:
    """Where Hyperdrive is not managed there is nothing to switch but `.env`."""

    def where(self) -> Literal["source", "target", "unmanaged"]:
        return "unmanaged"

    def prepare(self) -> str:
        return "Hyperdrive is not managed here"

    def prove_way_back(self) -> None:
        return

    def quiet_cache(self) -> None:
        return

    def to_target(self) -> None:
        return

    def to_source(self) -> None:
        return

    def drop_old_connections(self) -> bool:
        return False

    def put_caching_back(self, caching: dict[str, Any]) -> None:
        return


def _plain(found: Any) -> dict[str, Any]:
    if found is None:
        raise ClarityError("Cloudflare gave an empty answer.", remedy="run the same command again.")
    value = found.model_dump(mode="json", exclude_none=True)
    if not isinstance(value, dict):
        raise ClarityError("Cloudflare gave an answer that is no Hyperdrive config.", remedy="run the same command again.")
    return value


def _age(modified: Any) -> float:
    """Seconds that have gone by since the config was changed last, at the least; 0 where that is not known."""
    try:
        at = datetime.datetime.fromisoformat(str(modified).replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    if not at.microsecond:  # whole seconds may be cut off: it may have been up to one later
        at += datetime.timedelta(seconds=1)
    now = datetime.datetime.now(datetime.UTC)
    return max(0.0, (now - (at if at.tzinfo else at.replace(tzinfo=datetime.UTC))).total_seconds())


def _messages(error: cloudflare.APIStatusError) -> list[str]:
    body = error.body if isinstance(error.body, dict) else {}
    return [f"{item.get('code', '')} {item.get('message', '')}".strip() for item in body.get("errors") or [] if isinstance(item, dict)]


def _is_quota(error: cloudflare.APIStatusError) -> bool:
    text = " ".join(_messages(error)).lower()
    return any(word in text for word in ("limit", "quota", "maximum"))
