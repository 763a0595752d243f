"""Secrets are unreadable without the key, and the key outlives the process."""

import os
import stat
import subprocess
import sys

import pytest

from crm.db.vault import FILE, SecretsUnreadable, Vault
from crm.settings import Settings

SECRETS = {"app_secret": "rahasia", "token": "kopi"}


def test_what_was_sealed_is_opened_by_the_same_key_only():
    sealed = Vault("a long key of somebody's").seal(SECRETS)
    assert b"rahasia" not in sealed
    assert Vault("a long key of somebody's").open(sealed) == SECRETS
    with pytest.raises(SecretsUnreadable):
        Vault("another long key").open(sealed)


def test_the_same_secrets_are_never_sealed_alike():
    vault = Vault("a long key of somebody's")
    assert vault.seal(SECRETS) != vault.seal(SECRETS)


def test_a_key_of_the_settings_is_used_and_none_is_made(tmp_path):
    settings = Settings(secret_key="sixteen letters!", data_dir=tmp_path)
    assert Vault("sixteen letters!").open(Vault.of(settings).seal(SECRETS)) == SECRETS
    assert list(tmp_path.iterdir()) == []
    assert "sixteen" not in repr(settings)


def test_without_one_a_key_is_made_once_for_the_eyes_of_its_owner(tmp_path):
    settings = Settings(data_dir=tmp_path / "data")
    sealed = Vault.of(settings).seal(SECRETS)
    assert Vault.of(settings).open(sealed) == SECRETS
    file = tmp_path / "data" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [FILE]


def test_no_key_is_made_before_there_is_a_secret(tmp_path):
    folder = tmp_path / "data"
    with pytest.raises(SecretsUnreadable):
        Vault(None, folder=folder).open(Vault("another key").seal(SECRETS))
    assert not folder.exists()


def test_where_no_key_can_be_kept_no_secret_is_stored(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(SecretsUnreadable, match="CRM_SECRET_KEY"):
        Vault(None, folder=tmp_path / "data").seal(SECRETS)


def test_processes_that_make_the_first_key_together_have_the_same(tmp_path):
    program = "from crm.db.vault import _kept; from pathlib import Path; import sys; print(_kept(Path(sys.argv[1])))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        for _ in range(4)
    ]
    keys = {process.communicate()[0].strip() for process in processes}
    assert len(keys) == 1
    assert keys != {""}


def test_a_digest_is_the_same_for_one_key_and_purpose_and_says_nothing_of_the_text(tmp_path):
    vault = Vault("a long key of somebody's")
    digest = vault.digest("email sari@example.com", purpose="a")
    assert len(digest) == 32
    assert Vault("a long key of somebody's").digest("email sari@example.com", purpose="a") == digest
    assert Vault("another long key").digest("email sari@example.com", purpose="a") != digest
    assert vault.digest("email sari@example.com", purpose="b") != digest
    kept = Vault(None, folder=tmp_path / "data")
    assert not kept.has_key
    assert kept.digest("x", purpose="a") == Vault(None, folder=tmp_path / "data").digest("x", purpose="a")
    assert kept.has_key
