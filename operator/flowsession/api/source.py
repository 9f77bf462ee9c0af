"""The source of a flow folder: spec.source of a FlowEnvironment, and its part of the status."""

from pydantic import ConfigDict, Field

from flowsession.api.base import Model, ObjectName, Timestamp, rule, validations

ONE_SOURCE = "a source is one of configMap, archive, git, persistentVolumeClaim and ociArtifact"


class ConfigMapItem(Model):
    """Maps one key of the ConfigMap to a path in the flow folder."""

    key: str = Field(min_length=1, max_length=253, description="Key of the ConfigMap.")
    path: str = Field(
        min_length=1,
        max_length=1024,
        description="Relative path of the file in the source, such as data/sample.csv.",
        json_schema_extra=validations(
            rule(
                "!self.startsWith('/') && !('..' in self.split('/'))",
                "a path must be relative and must not contain '..': it names a place inside the flow folder",
            )
        ),
    )


class ConfigMapSource(Model):
    """A ConfigMap whose keys are the files."""

    name: ObjectName = Field(
        description="Name of the ConfigMap in this namespace. Label it flowsession.dev/source=true to have changes seen at once;"
        " unlabelled it is read again every 5 minutes."
    )
    items: list[ConfigMapItem] | None = Field(
        default=None,
        max_length=1000,
        description="Which keys to take, and where they go; absent: every key is a file of that name.",
    )


class ArchiveConfigMap(Model):
    """A key of a ConfigMap."""

    name: ObjectName = Field(
        description="Name of the ConfigMap in this namespace. Label it flowsession.dev/source=true to have changes seen at once;"
        " unlabelled it is read again every 5 minutes."
    )
    key: str = Field(
        min_length=1,
        max_length=253,
        description="The key with the archive, such as flow.tar.gz; kubectl create configmap NAME --from-file=flow.tar.gz makes it.",
    )


class ArchiveSource(Model):
    """A packed folder: a .tar.gz or a .zip."""

    config_map: ArchiveConfigMap = Field(description="The ConfigMap with the archive.")


class GitSource(Model):
    """A folder of a git repository, read at one commit by a short-lived pod."""

    url: str = Field(
        min_length=8,
        max_length=2048,
        description="URL of the repository: https://, ssh:// (ssh://git@host/path for git@host:path) or http://.",
        json_schema_extra=validations(
            rule(
                "self.matches('^(https?|ssh)://[^-/\\\\s][^/\\\\s]*/[^\\\\s]+$')",
                "url must be https://host/path, ssh://user@host/path or http://host/path; write ssh://git@host/path for git@host:path",
            ),
            rule(
                "!self.matches('^https?://[^/]*@') && !self.matches('^ssh://[^/]*:[^/]*@')",
                "url must hold no credentials: it is no secret; put them into a Secret and name that in credentialsSecretName",
            ),
        ),
    )
    revision: str = Field(
        default="",
        max_length=255,
        description="A branch, a tag, or the full id of a commit. Empty: the repository's default branch.",
        json_schema_extra=validations(
            rule(
                "self == '' || self.matches('^[A-Za-z0-9_./+@#=,!%-]+$') && !self.startsWith('-') && !self.contains('..')",
                "revision must be the name of a branch or tag, or the full id of a commit",
            )
        ),
    )
    path: str = Field(
        default=".",
        max_length=1024,
        description="The folder of the repository that is the source; flowPath and additional_includes stay inside of it."
        " Up to 3,000 files and 8 MiB, 1 MB packed; a .amlignore in it leaves files out.",
        json_schema_extra=validations(
            rule("!self.startsWith('/') && !('..' in self.split('/'))", "path must be relative and must not contain '..'")
        ),
    )
    credentials_secret_name: ObjectName | None = Field(
        default=None,
        description="Secret in this namespace: username and password (or token) for https, ssh-privatekey and known_hosts for ssh;"
        " ca.crt: certificates (PEM) that the server may be signed by. Only the pod that reads the repository gets it.",
    )
    poll_seconds: int = Field(
        default=0,
        ge=0,
        le=86400,
        description="Seconds between two checks for a new commit, 60 or more; each takes a short-lived pod."
        " 0: only when the spec changes, or on request by the annotation flowsession.dev/refresh-requested-at.",
        json_schema_extra=validations(rule("self == 0 || self >= 60", "pollSeconds must be 0 (never) or at least 60")),
    )


class PersistentVolumeClaimSource(Model):
    """A folder of a PersistentVolumeClaim."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim in this namespace.")
    path: str = Field(
        default=".",
        max_length=1024,
        description="The folder of the claim that is the source.",
        json_schema_extra=validations(
            rule("!self.startsWith('/') && !('..' in self.split('/'))", "path must be relative and must not contain '..'")
        ),
    )
    read_only: bool = Field(
        default=False,
        description="False: sessions use the folder itself, so that edits made in a session stay. True: sessions get a copy of it,"
        " of up to 3,000 files and 8 MiB, 1 MB packed.",
    )


class OCIArtifactSource(Model):
    """A folder of an OCI image or artifact, mounted as an image volume by the kubelet."""

    reference: str = Field(
        min_length=1,
        max_length=1024,
        description="Reference of the image, such as registry.example.com/team/flows:v1, best with its digest. The node pulls it.",
        json_schema_extra=validations(rule("self.matches('^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$')", "reference must be the name of an image")),
    )
    path: str = Field(
        default=".",
        max_length=1024,
        description="The folder of the image that is the source. Up to 3,000 files and 8 MiB, 1 MB packed.",
        json_schema_extra=validations(
            rule("!self.startsWith('/') && !('..' in self.split('/'))", "path must be relative and must not contain '..'")
        ),
    )


class Source(Model):
    """Where the flow folder comes from."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            rule(
                "[has(self.configMap), has(self.archive), has(self.git), has(self.persistentVolumeClaim), has(self.ociArtifact)]"
                ".filter(given, given).size() == 1",
                f"{ONE_SOURCE}, not none or several: leave source out where there is no flow folder",
            )
        )
    )

    config_map: ConfigMapSource | None = Field(default=None, description="Files from the keys of a ConfigMap.")
    archive: ArchiveSource | None = Field(
        default=None,
        description="A .tar.gz or .zip of the folder, for folders with sub-folders: up to 3,000 members, 8 MiB unpacked.",
    )
    git: GitSource | None = Field(default=None, description="A folder of a git repository.")
    persistent_volume_claim: PersistentVolumeClaimSource | None = Field(default=None, description="A folder of a PersistentVolumeClaim.")
    oci_artifact: OCIArtifactSource | None = Field(default=None, description="A folder of an OCI image or artifact.")


class SourceWarning(Model):
    """A problem of the flow folder that stops nothing."""

    file: str = Field(default="", description="The file.")
    line: int | None = Field(default=None, description="Line in the file, from 1.")
    code: str = Field(description="One CamelCase word for programs.")
    message: str = Field(description="What was found, and what to do.")


class SourceStatus(Model):
    """The last reading of the source."""

    spec_hash: str = Field(default="", description="Hash of the spec.source that was read.")
    revision: str | None = Field(default=None, description="The branch, tag or commit that was read.")
    commit: str | None = Field(default=None, description="The commit of the repository that sessions get.")
    digest: str | None = Field(default=None, description="SHA-256 of the archive with the sessions' files.")
    config_map_name: str | None = Field(default=None, description="The immutable ConfigMap with the archive.")
    resolved_at: Timestamp | None = Field(default=None, description="When that was read.")
    checked_at: Timestamp | None = Field(default=None, description="When the last attempt to read the source ended.")
    failures: int | None = Field(default=None, description="Failed attempts in a row.")
    reason: str | None = Field(default=None, description="Why the last attempt failed, in one word.")
    message: str | None = Field(default=None, description="Why the last attempt failed, and what to do.")
    warnings: list[SourceWarning] | None = Field(default=None, description="Problems that stopped nothing.")
