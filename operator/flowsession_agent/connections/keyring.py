"""A keyring in a file, for the key with which prompt flow encrypts the secrets in its store: containers have no other keyring.

It is stored where nothing is saved from (.config and .local of the session's home). So it ends with the pod, and secrets left in a copy of
the store are unreadable from then on.
"""

from __future__ import annotations

import os

FOLDER = os.path.join(".local", "share", "flowsession")
CONFIG = os.path.join(".config", "python_keyring", "keyringrc.cfg")
MODULE = "flowsession_keyring"
SETTINGS = f"[backend]\ndefault-keyring={MODULE}.Keyring\nkeyring-path={{folder}}\n"
BACKEND = '''"""Keeps passwords of this session in a file that only its user reads."""

import json
import os

from keyring.backend import KeyringBackend

FILE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "keyring.json")


class Keyring(KeyringBackend):
    """One file with all passwords."""

    priority = 1

    def get_password(self, service, username):
        return self._read().get(service, {}).get(username)

    def set_password(self, service, username, password):
        found = self._read()
        found.setdefault(service, {})[username] = password
        self._write(found)

    def delete_password(self, service, username):
        found = self._read()
        found.get(service, {}).pop(username, None)
        self._write(found)

    def _read(self):
        try:
            with open(FILE, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError):
            return {}

    def _write(self, found):
        new = FILE + ".%d" % os.getpid()
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(found, file)
        os.replace(new, FILE)
'''


def provide(home: str) -> None:
    """Write the keyring and its settings below `home`, unless settings exist already. Raises OSError."""
    config, folder = os.path.join(home, CONFIG), os.path.join(home, FOLDER, "keyring")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.path.exists(config):
        return
    os.makedirs(os.path.dirname(config), exist_ok=True)
    _write(os.path.join(folder, f"{MODULE}.py"), BACKEND)
    _write(config, SETTINGS.format(folder=folder))


def _write(path: str, text: str) -> None:
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
