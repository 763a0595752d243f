"""Secrets of others, encrypted or hashed with a key that the database does not have."""

import base64
import hashlib
import hmac
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from crm.errors import Unavailable
from crm.settings import Settings

FILE: Final = "secret.key"


class SecretsUnreadable(Unavailable):
    code = "secrets_unreadable"
    title = "The stored secrets can't be read"


class Vault:
    """Encrypts and decrypts with one key; any text will do for it, a long random one protects.

    Without a `key`, it is the one in `folder`: made when the first secret is stored, and not before.
    """

    def __init__(self, key: str | None, *, folder: Path = Path()) -> None:
        self._folder = folder
        self._key = key
        self._cipher = None if key is None else _cipher(key)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The vault of this place."""
        return cls(settings.secret_key, folder=settings.data_dir)

    def seal(self, secrets: Mapping[str, str]) -> bytes:
        """What may be stored. Raises SecretsUnreadable where no key can be kept."""
        if self._cipher is None:
            try:
                self._cipher = _cipher(_kept(self._folder))
            except OSError as error:
                raise SecretsUnreadable(f"No key can be kept in CRM_DATA_DIR: set CRM_SECRET_KEY. {error}") from error
        return self._cipher.encrypt(msgspec.json.encode(secrets))

    @property
    def has_key(self) -> bool:
        """Whether anything can have been sealed or hashed: else there is no key yet."""
        return self._key is not None or (self._folder / FILE).exists()

    def digest(self, text: str, *, purpose: str) -> bytes:
        """By what a text is known again without being kept: another one for each key, and each purpose.

        Raises SecretsUnreadable where no key can be kept.
        """
        if self._key is None:
            try:
                self._key = _kept(self._folder)
            except OSError as error:
                raise SecretsUnreadable(f"No key can be kept in CRM_DATA_DIR: set CRM_SECRET_KEY. {error}") from error
        return hmac.digest(f"{purpose}\x00{self._key}".encode(), text.encode(), "sha256")

    def open(self, sealed: bytes) -> dict[str, str]:
        """What was sealed. Raises SecretsUnreadable where that was done with another key."""
        try:
            if self._cipher is None:
                self._cipher = _cipher((self._folder / FILE).read_text().strip())
            return msgspec.json.decode(self._cipher.decrypt(sealed), type=dict[str, str])
        except (InvalidToken, OSError) as error:
            raise SecretsUnreadable(
                f"They were stored under another key. Give every process the same CRM_SECRET_KEY, or the same {FILE} "
                "in CRM_DATA_DIR; or set the secrets again."
            ) from error


def _cipher(key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))


def _kept(folder: Path) -> str:
    """The key in the folder; of processes that make the first one together, one does and the others find it."""
    path = folder / FILE
    with suppress(FileNotFoundError):
        return path.read_text().strip()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{FILE}.")  # for the owner's eyes only
    with os.fdopen(descriptor, "w") as file:
        file.write(Fernet.generate_key().decode())
        file.flush()
        os.fsync(descriptor)
    with suppress(FileExistsError):
        os.link(name, path)
    Path(name).unlink()
    return path.read_text().strip()
