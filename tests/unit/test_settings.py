"""The configuration: one schema, each wrong value its own message, nothing secret in any of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from clarity_infra.errors import ConfigurationError
from clarity_infra.settings import KEYS, SECRET_KEYS, Configuration, Settings, explain

ROOT = Path(__file__).parents[2]
URL = "postgresql://admin:pw-MASTER@127.0.0.1:5432/postgres"
ACCOUNT = "a" * 32


def settings(folder: Path, environment: Mapping[str, str] | None = None, **configured: Any) -> Settings:
    values = {"envFile": "", "masterDatabaseUrl": URL, **configured}
    return Settings.read("dev", values.get, keys=dict.fromkeys((*KEYS, *values)), environment=environment or {}, folder=folder)


def test_the_schema_of_the_project_and_the_typed_settings_say_the_same() -> None:
    schema = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    fields = {key: field.get_default() for key, field in zip(KEYS, Configuration.model_fields.values(), strict=True)}
    assert list(schema) == list(fields)
    types = {str: "string", int: "integer", bool: "boolean", tuple: "array"}
    for key, declared in schema.items():
        assert declared["type"] == types[type(fields[key])], key
        default = tuple(declared["default"]) if declared["type"] == "array" else declared["default"]
        assert default == fields[key], key
        assert declared["description"], key
    assert {key for key in schema if schema[key]["description"].startswith("(secret)")} == set(SECRET_KEYS)


ACCOUNT_SET = {"cloudflareAccountId": ACCOUNT, "cloudflareApiToken": "pw-TOKEN"}
SECOND = {**ACCOUNT_SET, "hyperdriveWay": "second-config"}
TOKEN_SET = {"hyperdriveAccessClientId": "x", "hyperdriveAccessSecret": "pw-x"}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"stage": "prod"}, "stage: Input should be 'provision', 'copy', 'cutover' or 'cleanup'"),
    ({"stage": "Copy"}, "stage: Input should be"),
    ({"stag": "copy"}, "clarity-infra:stag is not a known key; did you mean stage?"),
    ({"zzz": "1"}, "clarity-infra:zzz is not a known key."),
    ({"copyRevision": "0"}, "copyRevision: Input should be greater than or equal to 1"),
    ({"copyRevision": "two"}, "copyRevision: Input should be a valid integer"),
    ({"tables": "[]"}, "tables: name at least one table"),
    ({"tables": "app_config"}, "tables: must be a list"),
    ({"tables": '{"a": 1}'}, "tables: Input should be a valid tuple"),
    ({"tables": "[1]"}, "tables: Input should be a valid string"),
    ({"allowWeakTls": "perhaps"}, "allowWeakTls: Input should be a valid boolean"),
    ({"auditLog": "2"}, "auditLog: Input should be a valid boolean"),
    ({"adoptExisting": "x"}, "adoptExisting: Input should be a valid boolean"),
    ({"grantAllData": "x"}, "grantAllData: Input should be a valid boolean"),
    ({"readWriteRoleLogin": "x"}, "readWriteRoleLogin: Input should be a valid boolean"),
    ({"switchMasterDatabaseUrl": "x"}, "switchMasterDatabaseUrl: Input should be a valid boolean"),
    ({"passwordForm": "md5"}, "passwordForm: Input should be 'scram' or 'plain'"),
    ({"passwordRevision": "-1"}, "passwordRevision: Input should be greater than or equal to 1"),
    ({"passwordGraceSeconds": "-1"}, "passwordGraceSeconds: Input should be greater than or equal to 0"),
    ({"secondUser": "clarity_rw"}, 'secondUser is "clarity_rw", which is another role of this stack'),
    ({"secondUser": "s" * 64}, "clarity-infra:secondUser: 's+' is longer"),
    ({"user": "u" * 62, "passwordRevision": "2"}, "clarity-infra:secondUser: 'u+_2' is longer"),
    ({"readOnlyRole": "clarity_user"}, 'readOnlyRole is "clarity_user", which is another role of this stack'),
    ({"readOnlyRole": "clarity_user_2"}, 'readOnlyRole is "clarity_user_2", which is another role of this stack'),
    ({"readOnlyRole": "r" * 64}, "clarity-infra:readOnlyRole: 'r+' is longer"),
    ({"readOnlyRole": "admin"}, 'MASTER_DATABASE_URL logs in as "admin", the role that is to be made'),
    ({"hyperdrivePort": "70000"}, "hyperdrivePort: Input should be less than or equal to 65535"),
    ({"hyperdrivePort": "-1"}, "hyperdrivePort: Input should be greater than or equal to 0"),
    ({"hyperdriveCaFile": "ca.pem"}, "hyperdriveCaFile is set, cloudflareAccountId is not"),
    ({"hyperdriveWay": "both"}, "hyperdriveWay: Input should be 'in-place' or 'second-config'"),
    ({"hyperdriveWay": "second-config"}, "hyperdriveWay is second-config, cloudflareAccountId is not set"),
    ({"wranglerFile": "wrangler.jsonc"}, "wranglerFile is set, but in place the ID of the Hyperdrive config stays"),
    ({**SECOND, "wranglerFile": "no-such.jsonc"}, r"wranglerFile: .*no-such.jsonc cannot be read \(No such file"),
    ({**ACCOUNT_SET, "hyperdriveServiceId": "x", "hyperdriveHost": "h"}, "hyperdriveServiceId goes with neither hyperdriveHost nor"),
    ({**ACCOUNT_SET, **TOKEN_SET, "hyperdriveServiceId": "x"}, "hyperdriveServiceId goes with neither hyperdriveHost nor"),
    ({**ACCOUNT_SET, **TOKEN_SET, "hyperdrivePort": "1"}, "hyperdrivePort is of no use with hyperdriveAccessClientId"),
    ({**ACCOUNT_SET, "hyperdriveAccessClientId": "x"}, "two halves of one service token, and one is missing"),
    ({**ACCOUNT_SET, "hyperdriveAccessSecret": "pw-x"}, "two halves of one service token, and one is missing"),
    ({**ACCOUNT_SET, "hyperdriveServiceId": "x", "hyperdriveCaFile": "x"}, "hyperdriveCaFile cannot be used with hyperdriveServiceId"),
    ({**ACCOUNT_SET, "hyperdriveCaFile": "no-such.pem"}, r"hyperdriveCaFile: .*no-such.pem cannot be read \(No such file"),
    ({"hyperdriveId": "abc"}, "hyperdriveId: must be 32 hexadecimal digits"),
    ({"cloudflareAccountId": "x" * 32}, "cloudflareAccountId: must be 32 hexadecimal digits"),
    ({"lockBudget": "0"}, "lockBudget: Input should be greater than or equal to 1"),
    ({"lockBudget": "99999"}, "lockBudget: Input should be less than or equal to 3600"),
    ({"cacheDrainSeconds": "-2"}, "cacheDrainSeconds: Input should be greater than or equal to -1"),
    ({"monitoringHours": "721"}, "monitoringHours: Input should be less than or equal to 720"),
    ({"monitoringHours": "soon"}, "monitoringHours: Input should be a valid integer"),
    ({"acknowledgeRefusedWrites": "-1"}, "acknowledgeRefusedWrites: Input should be greater than or equal to 0"),
    ({"workers": "0"}, "workers: Input should be greater than or equal to 1"),
    ({"workers": "65"}, "workers: Input should be less than or equal to 64"),
    ({"masterDatabaseUrl": ""}, "MASTER_DATABASE_URL is not set"),
    ({"masterDatabaseUrl": "postgres//x"}, "masterDatabaseUrl is not a postgres:// URL"),
    ({"databaseUrl": "mysql://u:pw-APP@h/d"}, "databaseUrl is not a postgres:// URL"),
    ({"targetDatabaseUrl": "x"}, "targetDatabaseUrl is not a postgres:// URL"),
    ({"database": "postgres"}, 'Source and target are the same: database "postgres"'),
    ({"database": "d" * 64}, "clarity-infra:database: 'd+' is longer than the 63 bytes"),
    ({"user": "ü" * 32}, "clarity-infra:user: 'ü+' is longer than the 63 bytes"),
    ({"readWriteRole": "r" * 64}, "clarity-infra:readWriteRole: 'r+' is longer"),
    ({"user": "clarity_rw"}, "user and readWriteRole are the same role"),
    ({"database": "it's"}, "single quote, and the PostgreSQL plugin could not drop"),
    *(({"database": f"a{c}b"}, "the PostgreSQL plugin cannot connect to a database of that name") for c in "?#%\n\t"),
    ({"sourceDatabase": "100%"}, "(?s)admin's URL names.*set TARGET_DATABASE_URL to another database"),
    ({"user": "a=b"}, "user: 'a=b' has an equals sign"),
    ({"readWriteRole": "a=b"}, "readWriteRole: 'a=b' has an equals sign"),
    ({"masterDatabaseUrl": "postgresql://a%3Db:pw-x@127.0.0.1/d"}, "the user of the admin's URL: 'a=b' has an equals sign"),
    ({"masterDatabaseUrl": "postgresql://a%3Ab:pw-x@127.0.0.1/d"}, "whose name has a colon"),
    *(({"user": name}, f"PostgreSQL reserves the role name '{name}'") for name in ("public", "none", "pg_mine")),
    ({"readWriteRole": "pg_mine"}, "readWriteRole: PostgreSQL reserves the role name"),
    ({"tables": '["pg_catalog.pg_class"]'}, "pg_catalog.pg_class belongs to PostgreSQL itself"),
    ({"tables": '["information_schema.tables"]'}, "information_schema.tables belongs to PostgreSQL itself"),
    ({"user": "admin"}, 'MASTER_DATABASE_URL logs in as "admin", the role that is to be made'),
    ({"readWriteRole": "admin"}, 'MASTER_DATABASE_URL logs in as "admin", the role that is to be made'),
    ({"tables": '["b", "b"]'}, "tables names public.b twice"),
    ({"tables": '["a", "public.a"]'}, "tables names public.a twice"),
    ({"tables": '["a.b.c"]'}, "more than a schema and a name"),
    ({"tables": '["\\"a"]'}, "a quote that is not closed"),
    ({"tables": '["\\"a\\"b"]'}, "badly quoted"),
    ({"tables": '[""]'}, "tables: an empty name"),
    ({"tables": '["a."]'}, "tables: an empty name"),
    ({"trackingTable": "a.b.c"}, "trackingTable: 'a.b.c' has more than"),
    ({"trackingTable": "x."}, "trackingTable: an empty name"),
    ({"hyperdriveId": "b" * 32}, "hyperdriveId is set, cloudflareAccountId is not"),
    ({"cloudflareAccountId": ACCOUNT}, "There is no Cloudflare API token"),
    ({"stage": "cleanup"}, "no place for their backup is configured"),
    ({"switchMasterDatabaseUrl": "true"}, "switchMasterDatabaseUrl changes the database"),
    ({"sslRootCert": "no-such.pem"}, "the CA file .*no-such.pem is not there"),
    ({"envFile": "no-such.env"}, "no-such.env is not there"),
    ({"envFile": "."}, "is a directory"),
]


@pytest.mark.parametrize(("configured", "message"), BAD, ids=[str(index) for index in range(len(BAD))])
def test_what_cannot_be_used_is_refused_with_its_own_message(tmp_path: Path, configured: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        made = settings(tmp_path, **configured)
        made.check()
        _ = made.env_file
    assert "What to do" in str(raised.value)
    assert "pw-" not in str(raised.value)


def test_roles_are_named_after_the_database_unless_they_have_names(tmp_path: Path) -> None:
    made = settings(tmp_path).configuration
    assert (made.database, made.user, made.read_write_role) == ("clarity", "clarity_user", "clarity_rw")
    made = settings(tmp_path, database="staging").configuration
    assert (made.user, made.read_write_role) == ("staging_user", "staging_rw")
    made = settings(tmp_path, database="staging", user="app").configuration
    assert (made.user, made.read_write_role) == ("app", "staging_rw")


@pytest.mark.parametrize("name", ['so"me', "a;b", "a b", "a\\b", "a.b", "a/b", "ä", "--", "$$", "d" * 63, "UPPER", "a:b", "a@b"])
def test_odd_names_that_everything_can_work_with_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    made = settings(tmp_path, database=name, user=f"{name[:60]}_u", readWriteRole=f"{name[:60]}_r")
    made.check()
    assert (made.target.database, made.configuration.user) == (name, f"{name[:60]}_u")


def test_several_wrong_values_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)stage:.*workers:"):
        settings(tmp_path, stage="x", workers="0")


def test_a_secret_that_has_the_wrong_type_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        settings(tmp_path, databaseUrl=["pw-LEAK"])
    assert "pw-LEAK" not in str(raised.value)


def test_the_stack_decides_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MASTER_DATABASE_URL=postgresql://a:1@127.0.0.1/file\n")
    environment = {"MASTER_DATABASE_URL": "postgresql://a:1@127.0.0.1/environment"}
    file = settings(tmp_path, masterDatabaseUrl="", envFile=".env")
    assert file.source.database == "file"
    assert settings(tmp_path, environment, masterDatabaseUrl="", envFile=".env").source.database == "environment"
    stack = settings(tmp_path, environment, masterDatabaseUrl="postgresql://a:1@127.0.0.1/stack", envFile=".env")
    assert stack.source.database == "stack"


def test_of_the_url_that_is_switched_the_file_counts_more_than_what_a_shell_read_from_it_before(tmp_path: Path) -> None:
    """`. .env`, then a switch or a way back in the same shell: what it exported names the other database."""
    old, new = "postgresql://app:1@127.0.0.1/postgres", "postgresql://clarity_user:2@127.0.0.1/clarity"
    for written, exported in ((old, new), (new, old)):
        (tmp_path / ".env").write_text(f"DATABASE_URL={written}\n")
        found = settings(tmp_path, {"DATABASE_URL": exported}, envFile=".env")
        assert (found.application_url, found.switched) == (written, written == new)
    (tmp_path / ".env").unlink()
    assert settings(tmp_path, {"DATABASE_URL": old}, envFile=".env").application_url == old
    assert settings(tmp_path, {"DATABASE_URL": new}, envFile="").switched


def test_a_key_that_says_what_was_before_the_move_does_not_say_where_the_application_is(tmp_path: Path) -> None:
    old = "postgresql://app:1@127.0.0.1/postgres"
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://clarity_user:2@127.0.0.1/clarity\n")
    found = settings(tmp_path, databaseUrl=old, envFile=".env")
    assert (found.application_url, found.switched) == (old, True)


@pytest.mark.parametrize("variable", ["PGHOSTADDR", "PGSERVICE"])
def test_nothing_but_the_urls_says_where_a_session_goes(tmp_path: Path, variable: str) -> None:
    """With PGHOSTADDR a URL of this machine, which may go without TLS, leads wherever that says."""
    found = settings(tmp_path, {variable: "192.0.2.1", "PGAPPNAME": "harmless"})
    for reach in (found.check, lambda: found.source, lambda: found.target):
        with pytest.raises(ConfigurationError, match=f"{variable} is set in the environment") as raised:
            reach()
        assert f"env -u {variable}" in raised.value.remedy
    assert settings(tmp_path, {variable: ""}).source.host == "127.0.0.1"


def test_what_may_be_discarded_is_read_from_the_environment_first(tmp_path: Path) -> None:
    assert settings(tmp_path, discardWrites="clarity").discard == "clarity"
    assert settings(tmp_path, {"CLARITY_DISCARD_WRITES": "other"}, discardWrites="clarity").discard == "other"


def test_a_switched_application_is_recognised(tmp_path: Path) -> None:
    assert not settings(tmp_path, databaseUrl=URL).switched
    assert settings(tmp_path, databaseUrl="postgresql://clarity_user:x@127.0.0.1:5432/clarity").switched
    assert settings(tmp_path, databaseUrl="postgresql://clarity_user_2:x@127.0.0.1:5432/clarity").switched
    assert not settings(tmp_path, databaseUrl="postgresql://clarity_user_3:x@127.0.0.1:5432/clarity").switched


def test_neither_repr_nor_explanation_shows_a_password(tmp_path: Path) -> None:
    made = settings(tmp_path, {"DATABASE_URL": "postgresql://u:pw-APP@127.0.0.1/d"}, cloudflareApiToken="pw-TOKEN")
    assert "pw-" not in repr(made)
    assert "pw-" not in explain(ConfigurationError(f"it said {URL}"))
