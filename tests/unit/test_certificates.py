"""A file that is to be the CA of an origin: taken as it is meant, or refused with the reason before anybody is asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clarity_infra.certificates import read_authority
from clarity_infra.errors import ConfigurationError


def certificate(folder: Path, name: str, *options: str) -> Path:
    path = folder / f"{name}.pem"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(folder / f"{name}.key"))
    subprocess.run(["openssl", "req", "-x509", *key, "-subj", f"/CN={name}", *options, "-out", str(path)], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Path:
    return certificate(folder, "authority", "-days", "2")


def test_what_stands_around_the_certificates_is_left_out(folder: Path, authority: Path) -> None:
    pem = authority.read_text()
    assert read_authority(authority) == pem
    path = folder / "commented.pem"
    path.write_text(f"subject: the CA\n{pem}and another\n{pem}")
    assert read_authority(path) == pem + pem


def test_what_is_no_authority_is_refused(folder: Path, authority: Path) -> None:
    (folder / "text.pem").write_text("hello")
    (folder / "cut.pem").write_text(authority.read_text()[:200] + "\n-----END CERTIFICATE-----\n")
    (folder / "both.pem").write_text(authority.read_text() + (folder / "authority.key").read_text())
    certificate(folder, "leaf", "-days", "2", "-addext", "basicConstraints=critical,CA:FALSE")
    expired = ("-in", str(authority), "-signkey", str(folder / "authority.key"), "-days", "-1", "-out", str(folder / "old.pem"))
    subprocess.run(["openssl", "x509", *expired], check=True, capture_output=True)
    for name, message in {
        "missing.pem": "cannot be read (No such file or directory)",
        "text.pem": "holds no PEM certificate",
        "cut.pem": "holds no PEM certificate",
        "both.pem": "holds a private key",
        "leaf.pem": "is not a CA's",
        "old.pem": "expired on",
    }.items():
        with pytest.raises(ConfigurationError) as raised:
            read_authority(folder / name)
        assert message in str(raised.value), name
        assert "hyperdriveCaFile: " in str(raised.value)
        assert "What to do: " in str(raised.value)
        assert "PRIVATE KEY" not in str(raised.value)
