"""The cluster's own certificate authority and keys, made with the openssl command, and its users' tokens."""

import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.shell import run

_DAYS = "3650"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pki:
    """A folder of keys and certificates."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def tokens(self) -> Path:
        """The API server's --token-auth-file."""
        return self.folder / "tokens.csv"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def public_key(self, name: str) -> Path:
        return self.folder / f"{name}.pub"

    def token(self, user: str) -> str:
        """Return the user's bearer token. Raises KeyError for a user that the folder was not made with."""
        for line in self.tokens.read_text().splitlines():
            token, name, *_ = line.split(",")
            if name == user:
                return token
        raise KeyError(user)


def ensure(folder: Path, *, server_names: Sequence[str], users: Sequence[tuple[str, str]]) -> Pki:
    """Return the folder's keys and tokens, created if it doesn't exist. An existing folder is complete. `users` are (name, group)."""
    if folder.is_dir():
        return Pki(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _sign_all(Pki(unfinished), server_names)
        lines = (f'{secrets.token_urlsafe(24)},{user},{user},"{group}"\n' for user, group in users)
        Pki(unfinished).tokens.write_text("".join(lines))
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return Pki(folder)


def _sign_all(pki: Pki, server_names: Sequence[str]) -> None:
    _certificate(
        pki,
        "ca",
        "CN=flowsession local cluster",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash",
    )
    names = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in server_names)
    leaf = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\n"
    _certificate(pki, "apiserver", "CN=kube-apiserver", f"{leaf}extendedKeyUsage=serverAuth\nsubjectAltName={names}")
    # The kubelets accept this one for `kubectl logs` and `exec`.
    _certificate(pki, "kubelet-client", "CN=kube-apiserver\nO=system:masters", f"{leaf}extendedKeyUsage=clientAuth")
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", pki.key("service-accounts"))
    run("openssl", "pkey", "-in", pki.key("service-accounts"), "-pubout", "-out", pki.public_key("service-accounts"))


def _certificate(pki: Pki, name: str, subject: str, extensions: str) -> None:
    """Create a certificate signed by the `ca` of the same folder. `ca` itself is self-signed."""
    configuration = pki.folder / f"{name}.cnf"
    configuration.write_text(
        f"[req]\ndistinguished_name=subject\nprompt=no\nx509_extensions=ext\n[subject]\n{subject}\n[ext]\n{extensions}\n"
    )
    signer = () if name == "ca" else ("-CA", pki.ca, "-CAkey", pki.key("ca"))
    run(
        "openssl",
        "req",
        "-x509",
        *_KEY,
        "-days",
        _DAYS,
        "-config",
        configuration,
        *signer,
        "-keyout",
        pki.key(name),
        "-out",
        pki.certificate(name),
    )
