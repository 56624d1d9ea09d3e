"""Which database would drizzle-kit migrate? The one that MASTER_DATABASE_URL of the application's `.env` names.

drizzle-kit runs on a developer's machine with the application's own configuration, which reads that variable. After the move it leads to
the old database, whose fence keeps rows out and DDL not; and what it makes belongs to whom the URL logs in.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from clarity_infra.connection import split_or_empty
from clarity_infra.errors import ConfigurationError
from clarity_infra.settings import PROJECT, Settings

VARIABLE = "MASTER_DATABASE_URL"


def is_switched(settings: Settings) -> bool:
    """Whether this stack changes the variable: it was asked to, and there is one. Raises ConfigurationError."""
    return settings.configuration.switch_master_database_url and bool(_present(settings))


def switched_url(settings: Settings) -> str:
    """The variable's value with the new database: a secret. All else in it stays, unless the new database is on another server.

    Raises ConfigurationError.
    """
    if settings.maintenance is not settings.source:
        return settings.target.url()
    return with_database(_present(settings), settings.target.database)


def next_step(settings: Settings) -> str:
    """What is left for a person to do about it once the new database is live; empty where nothing is. Raises ConfigurationError."""
    url, target = _present(settings), settings.target
    if settings.env_file is not None and (not url or database_of(url) == target.database):
        return ""
    stands = (
        f"MASTER_DATABASE_URL in {settings.configuration.env_file}, which drizzle-kit reads, still names the old database"
        if url
        else f'see that MASTER_DATABASE_URL, where drizzle-kit reads it, does not name the old database but "{target.database}"'
    )
    run = f"MASTER_DATABASE_URL=$DATABASE_URL npx drizzle-kit migrate: what it makes then belongs to {settings.configuration.user}"
    return f"{stands}: {run}" + (f"; {_offer(settings)}" if url else "")


def _offer(settings: Settings) -> str:
    source = settings.source.database
    return (
        f"or pulumi config set {PROJECT}:sourceDatabase {source} && pulumi config set {PROJECT}:switchMasterDatabaseUrl true && pulumi up: "
        "changes it, until you go back"
    )


def _present(settings: Settings) -> str:
    return (settings.env_file.get(VARIABLE) or "") if settings.env_file is not None else ""


def database_of(url: str) -> str:
    """The database that a URL names; empty where it names none."""
    return unquote(split_or_empty(url).path.removeprefix("/"))


def with_database(url: str, database: str) -> str:
    """The URL with another database, and everything else as it was written. Raises ConfigurationError where it cannot be read."""
    parts = split_or_empty(url)
    if not parts.netloc:
        raise ConfigurationError(
            f"{VARIABLE} in the application's .env is malformed, so that its database cannot be changed.",
            unchanged="It is left as it is.",
            remedy="percent-encode the special characters in its user and password.",
        )
    return parts._replace(path=f"/{quote(database, safe='')}").geturl()
