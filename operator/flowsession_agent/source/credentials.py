"""The Secret that the kubelet mounted into this pod, passed to git and ssh by files and a helper, never by arguments or variables."""

from __future__ import annotations

import os
import sys

from flowsession_agent.source.errors import SourceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.source.order import GitOrder

# Answers only for the repository's own host: a server may redirect git to another host, which must not get the password.
_ASKPASS = """\
#!{python} -IS
import sys
folder, host, user = {folder!r}, {host!r}, {user!r}
asked = sys.argv[1].split("'")[1].partition("://")[2].partition("/")[0].rpartition("@")[2]
if asked != host:
    sys.exit("credentials are for " + host + ", not for " + asked)
if sys.argv[1].startswith("Username"):
    print(user)
else:
    print(open(folder + {key!r}).read().strip())
"""


class Credentials:
    """The contents of the Secret. `folder` is empty if the source names no Secret."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._keys = (
            {name for name in (os.listdir(folder) if os.path.isdir(folder) else ()) if not name.startswith(".")} if folder else set()
        )

    def environment(self, order: GitOrder, *, scratch: str) -> dict[str, str]:
        """Return the variables by which git finds the credentials; they hold only paths. Raises SourceError naming a missing key."""
        if self.folder and not self._keys:
            raise SourceError(
                "CredentialsMissing", "the Secret of credentialsSecretName does not exist in this namespace, or is empty; create it"
            )
        if order.url.startswith("ssh://"):
            return self._ssh()
        if not self.folder or self._keys == {"ca.crt"}:
            return {}
        key = next((name for name in ("password", "token") if name in self._keys), "")
        if not key:
            raise SourceError("CredentialsMissing", f"the Secret of credentialsSecretName has no key password or token{self._has()}")
        helper = os.path.join(scratch, "askpass")
        script = _ASKPASS.format(
            python=sys.executable, folder=self.folder, host=order.host, user=self._read("username") or "git", key=f"/{key}"
        )
        with open(helper, "w", encoding="utf-8") as file:
            file.write(script)
        os.chmod(helper, 0o700)
        return {"GIT_ASKPASS": helper}

    def ca_bundle(self) -> str:
        """Return the CA certificates that are trusted in addition to the image's."""
        return self._read("ca.crt")

    def masked(self, text: str) -> str:
        """Return the text without the passwords."""
        for name in ("password", "token"):
            secret = self._read(name)
            if secret:
                text = text.replace(secret, "***")
        return text

    def _ssh(self) -> dict[str, str]:
        for key, advice in (
            ("ssh-privatekey", "for an ssh URL it must hold the private key there, without a passphrase"),
            (
                "known_hosts",
                "it must hold the host's own keys there, as `ssh-keyscan HOST` prints them; compare them with what the host publishes",
            ),
        ):
            if key not in self._keys:
                if not self.folder:
                    raise SourceError(
                        "CredentialsMissing",
                        "an ssh URL needs a Secret with ssh-privatekey and known_hosts; name it in credentialsSecretName",
                    )
                raise SourceError("CredentialsMissing", f"the Secret of credentialsSecretName has no key {key}{self._has()}: {advice}")
        with open(f"{self.folder}/ssh-privatekey", encoding="utf-8", errors="replace") as file:
            if not file.read().endswith("\n"):
                raise SourceError(
                    "CredentialsMissing", "ssh-privatekey of the Secret does not end with a line end, and ssh can't read it then; add one"
                )
        options = ["IdentitiesOnly=yes", f"UserKnownHostsFile={self.folder}/known_hosts", "GlobalKnownHostsFile=/dev/null", "BatchMode=yes"]
        options += ["StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ConnectTimeout=20", "PreferredAuthentications=publickey"]
        words = ["ssh", "-F", "none", "-i", f"{self.folder}/ssh-privatekey", *(word for option in options for word in ("-o", option))]
        return {"GIT_SSH_COMMAND": " ".join(words), "GIT_SSH_VARIANT": "ssh"}

    def _has(self) -> str:
        return f" (it has: {', '.join(sorted(self._keys)[:10])})"

    def _read(self, key: str) -> str:
        if key not in self._keys:
            return ""
        with open(f"{self.folder}/{key}", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
