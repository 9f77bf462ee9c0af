"""A control plane in its own folder: etcd and kube-apiserver, and on request controller-manager and scheduler.

The local cluster has one. A test can start a private one next to it in five seconds, on its own ports.
"""

from collections.abc import Sequence
from pathlib import Path

from localcluster import binaries, kubeconfig, pki, wait
from localcluster.binaries import KUBERNETES
from localcluster.daemons import Daemon
from localcluster.kubeconfig import Api
from localcluster.pki import Pki
from localcluster.say import CannotContinue

ADMIN = "admin"
LOOPBACK = "127.0.0.1"
SERVICE_RANGE = "10.96.0.0/16"
_CONTROLLER_MANAGER = "system:kube-controller-manager"
_SCHEDULER = "system:kube-scheduler"
_SYSTEM_USERS = ((ADMIN, "system:masters"), (_CONTROLLER_MANAGER, ""), (_SCHEDULER, ""), ("system:kube-proxy", ""))
_START_SECONDS = 90


class ControlPlane:
    """`start` is idempotent and returns when the server serves. `stop` returns when all processes are gone.

    `address` is where pods and nodes find the server. People and tests always use 127.0.0.1, which no proxy setting redirects. `nodes`
    are names of kubelets that get a user. `components` is a subset of the names in `daemons`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        etcd_port: int,
        etcd_peer_port: int,
        apiserver_port: int,
        components: Sequence[str] = ("etcd", "kube-apiserver"),
        address: str = LOOPBACK,
        nodes: Sequence[str] = (),
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.address = address
        self._etcd_ports = (etcd_port, etcd_peer_port)
        self._port = apiserver_port
        self._components = components
        self._nodes = nodes
        self._apiserver_flags = apiserver_flags
        self._started: list[Daemon] = []

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the administrator's kubeconfig, which `start` writes."""
        return self.folder / "kubeconfig"

    @property
    def server(self) -> str:
        return f"https://{LOOPBACK}:{self._port}"

    @property
    def ca(self) -> Path:
        return self.pki().ca

    @property
    def token(self) -> str:
        """Return the administrator's bearer token."""
        return self.pki().token(ADMIN)

    def api(self, user: str = ADMIN) -> Api:
        """Return a client of the server as this user."""
        return Api(self.server, self.pki().ca, self.pki().token(user))

    def user_kubeconfig(self, user: str) -> Path:
        """Write a kubeconfig for one of the system's own users, and return its path."""
        return kubeconfig.write(self.folder / "users" / f"{user.replace(':', '-')}.kubeconfig", self.api(user), user=user)

    def pki(self) -> Pki:
        """Return the keys, certificates and tokens, created on first use."""
        names = dict.fromkeys(
            (
                LOOPBACK,
                self.address,
                "10.96.0.1",
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            )
        )
        kubelets = tuple((f"system:node:{name}", "system:nodes") for name in self._nodes)
        return pki.ensure(self.folder / "pki", server_names=tuple(names), users=_SYSTEM_USERS + kubelets)

    def daemons(self) -> list[Daemon]:
        """Return the daemons in starting order."""
        every = {
            "etcd": self._etcd,
            "kube-apiserver": self._apiserver,
            "kube-controller-manager": self._controller_manager,
            "kube-scheduler": self._scheduler,
        }
        return [make() for name, make in every.items() if name in self._components]

    def start(self) -> bool:
        """Start the daemons, and return False if all were running already. Builds the programs first if the cache lacks them.

        Raises CannotContinue, naming the component and its log, if one doesn't come up.
        """
        binaries.build(KUBERNETES)
        kubeconfig.write(self.kubeconfig, self.api(), user=ADMIN)
        daemons = self._started = self.daemons()
        # etcd is up before the API server has parsed its flags, and the API server retries, so there is no wait in between.
        changed = [daemon.start() for daemon in daemons[:2]]
        self._wait_until_ready(daemons[:2])
        changed += [daemon.start() for daemon in daemons[2:]]
        return any(changed)

    def stop(self) -> None:
        """Stop in reverse order: the API server must close its connection before etcd ends, or the next start finds a locked store."""
        for daemon in reversed(self._started or self.daemons()):
            daemon.stop(seconds=30)

    def _wait_until_ready(self, daemons: Sequence[Daemon]) -> None:
        def ready() -> bool:
            for daemon in daemons:
                daemon.check_alive()
            return self.api().ready()

        if not wait.until(ready, seconds=_START_SECONDS, saying="the API server"):
            raise CannotContinue(f"kube-apiserver is not ready after {_START_SECONDS} s; {daemons[-1].last_words()}")

    def _etcd(self) -> Daemon:
        client, peer = (f"http://{LOOPBACK}:{port}" for port in self._etcd_ports)
        argv: list[str | Path] = [
            KUBERNETES.binary("etcd"),
            "--name=local",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=local={peer}",
            # Nothing here must survive a power failure, and fsync makes small machines slow.
            "--unsafe-no-fsync",
            "--quota-backend-bytes=4294967296",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=1h",
            "--log-level=warn",
        ]
        return Daemon("etcd", argv, folder=self.folder, ports=[(LOOPBACK, port) for port in self._etcd_ports])

    def _apiserver(self) -> Daemon:
        keys = self.pki()
        private = self.address == LOOPBACK
        # Pods connect to `address`, people to 127.0.0.1. The network's rules keep everybody else out (network.py).
        bind = LOOPBACK if private else "0.0.0.0"  # noqa: S104
        argv: list[str | Path] = [
            KUBERNETES.binary("kube-apiserver"),
            f"--etcd-servers=http://{LOOPBACK}:{self._etcd_ports[0]}",
            f"--bind-address={bind}",
            f"--secure-port={self._port}",
            f"--advertise-address={self.address}",
            # A loopback address is not allowed in an endpoint, and nobody uses a private server's Service anyway.
            f"--endpoint-reconciler-type={'none' if private else 'lease'}",
            f"--tls-cert-file={keys.certificate('apiserver')}",
            f"--tls-private-key-file={keys.key('apiserver')}",
            f"--client-ca-file={keys.ca}",
            f"--kubelet-client-certificate={keys.certificate('kubelet-client')}",
            f"--kubelet-client-key={keys.key('kubelet-client')}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--token-auth-file={keys.tokens}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-account-key-file={keys.public_key('service-accounts')}",
            f"--service-account-signing-key-file={keys.key('service-accounts')}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--allow-privileged=true",
            "--profiling=false",
            *self._apiserver_flags,
        ]
        return Daemon("kube-apiserver", argv, folder=self.folder, ports=[(bind, self._port)])

    def _controller_manager(self) -> Daemon:
        keys = self.pki()
        argv: list[str | Path] = [
            KUBERNETES.binary("kube-controller-manager"),
            f"--kubeconfig={self.user_kubeconfig(_CONTROLLER_MANAGER)}",
            "--leader-elect=false",
            "--secure-port=0",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={keys.key('service-accounts')}",
            f"--root-ca-file={keys.ca}",
            # The tool itself chooses the nodes' pod ranges (nodes.py).
            "--allocate-node-cidrs=false",
            # With the default of 20 requests a second, starting its forty controllers takes five seconds.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        ]
        return Daemon("kube-controller-manager", argv, folder=self.folder)

    def _scheduler(self) -> Daemon:
        argv: list[str | Path] = [
            KUBERNETES.binary("kube-scheduler"),
            f"--kubeconfig={self.user_kubeconfig(_SCHEDULER)}",
            "--leader-elect=false",
            "--secure-port=0",
            "--profiling=false",
        ]
        return Daemon("kube-scheduler", argv, folder=self.folder)
