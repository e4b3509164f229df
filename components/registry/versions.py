"""The model registry: versions of bundles in MLflow, found by number, alias or digest."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from components import tracking
from components.audit.log import AuditLog
from components.bundle import BUNDLE_FILE, WEIGHTS_FILE, Bundle, DetectorBundle, read_any_bundle
from components.errors import InputError, IntegrityError, RegistryError
from components.registry import journal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

METRIC_TAG = "metrics."


class Alias(StrEnum):
    """The names that a registered model's versions go by."""

    CHAMPION = "champion"  # what serves
    CHALLENGER = "challenger"  # the newest version that is not, or was not found fit to be, the champion
    PREVIOUS = "previous"  # what a rollback returns to


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model, as the registry records it.

    Attributes:
        digest: SHA-256 of ``bundle.json``, which fixes every byte of the bundle.
        created: When it was registered, in UTC.
        source: Where MLflow keeps the bundle's files.
        tags: What else is recorded: the gate's verdict, predecessor, rollback.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    created: datetime
    digest: str
    run_id: str
    source: str
    tags: Mapping[str, str]

    @property
    def data_version(self) -> str | None:
        """Data version that the model was made from."""
        return self.tags.get("data_version")

    @property
    def split_id(self) -> str | None:
        """Split that the model was trained and tested on."""
        return self.tags.get("split_id")

    @property
    def metrics(self) -> dict[str, float]:
        """Test metrics by name."""
        return {k.removeprefix(METRIC_TAG): float(v) for k, v in self.tags.items() if k.startswith(METRIC_TAG)}

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the test images of the model's own split."""
        return self.metrics.get("accuracy")

    @property
    def gate(self) -> str | None:
        """Verdict of the last promotion: passed, refused or forced; None where nobody asked yet."""
        return self.tags.get("gate")


class Registered(NamedTuple):
    """Outcome of a registration; ``created`` is False where the same bytes had a version already."""

    version: ModelVersion
    created: bool


class Registry:
    """The registered models of one MLflow.

    Args:
        uri: Tracking URI, ``Settings.mlflow_uri``.
        home: Where locks lie when MLflow is a server; processes that share it take turns.
        audit: Where what is done to models is entered; without it, whoever has one tells of it later.

    Every method raises ``RegistryError`` if MLflow does not answer or refuses.
    """

    def __init__(self, uri: str, home: Path | None = None, audit: AuditLog | None = None) -> None:
        self.uri = uri
        self.home = home
        self.audit = audit

    def register(self, folder: Path, *, run_id: str | None = None) -> Registered:
        """Give a bundle a version and the alias ``challenger``.

        Files go up before the version is made, below the digest's name: a crash in between leaves
        files that the next attempt writes over, and no version that lacks its files.

        Args:
            folder: The bundle.
            run_id: Run whose artifacts the files become; a run of its own if None.

        Raises:
            IntegrityError: if the bundle is incomplete or altered.
        """
        bundle, digest = read_any_bundle(folder)
        with self.lock(bundle.model_name):
            found = self.find(bundle.model_name, digest)
            version = found or self._create(folder, bundle, digest, run_id)
            journal.finish_registration(self, version)
            if not {Alias.CHAMPION, Alias.CHALLENGER} & set(version.aliases):
                self.set_alias(version, Alias.CHALLENGER)
            return Registered(self.show(version.name, version.version), created=found is None)

    def _create(self, folder: Path, bundle: Bundle | DetectorBundle, digest: str, run_id: str | None) -> ModelVersion:
        if run_id is None:
            with tracking.tracked_run(self.uri, f"register {bundle.model_name}", kind="register") as run:
                return self._create(folder, bundle, digest, run.id)
        tags = {
            "digest": digest,
            "data_version": bundle.data_version,
            "split_id": bundle.split_id,
            "code_version": bundle.code_version,
            "backbone": bundle.backbone,
            "modality": bundle.modality.value,
            "task": bundle.task,
            **{f"{METRIC_TAG}{name}": repr(value) for name, value in bundle.metrics.items()},
        }
        tags |= journal.registration(self, {**_facts(bundle), "digest": digest, "run_id": run_id})
        place = f"model-{digest[:12]}"
        with self._calling(f"registering {bundle.model_name} {digest[:12]}") as client:
            # bundle.json last: where it lies, the others do.
            for name in [*bundle.files, BUNDLE_FILE]:
                below = (PurePosixPath(place) / name).parent
                client.log_artifact(run_id, str(folder / name), str(below))
            if bundle.weights is not None:
                client.log_artifact(run_id, str(folder / WEIGHTS_FILE), weights_place(digest))
            self._ensure_model(client, bundle.model_name)
            source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
            made = client.create_model_version(bundle.model_name, source, run_id, tags=tags)
            first = self._first_of(bundle.model_name, digest)
            if first.version != str(made.version):  # another machine registered the same bytes at once
                client.delete_model_version(bundle.model_name, str(made.version))
        run = tracking.Run(self.uri, run_id)
        run.log_metrics({f"test/{name}": value for name, value in bundle.metrics.items()})
        run.set_tags(
            {
                "model": bundle.model_name,
                "model_version": first.version,
                "model_digest": digest,
                "data_version": bundle.data_version,
                "split_id": bundle.split_id,
            }
        )
        return first

    @staticmethod
    def _ensure_model(client: "MlflowClient", name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def find(self, name: str, digest: str) -> ModelVersion | None:
        """Give the version of a model that has this digest, None if there is none."""
        matches = self._search(name, f"tag.digest = '{digest}'")
        return min(matches, key=lambda version: int(version.version), default=None)

    def _first_of(self, name: str, digest: str) -> ModelVersion:
        found = self.find(name, digest)
        if found is None:
            raise RegistryError(f"{name} {digest[:12]} was registered and is gone; was it deleted meanwhile?")
        return found

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Give the versions of one model or all, by name, the newest first."""
        if name and "'" in name:
            return []  # no model can be called that, and the filter could not say it
        versions = self._search(name)
        return sorted(versions, key=lambda version: (version.name, -int(version.version)))

    def existing(self, name: str) -> list[ModelVersion]:
        """Give the versions of a model, the newest first.

        Raises:
            InputError: if the registry holds no such model.
        """
        versions = self.versions(name)
        if not versions:
            others = sorted({version.name for version in self.versions()})
            raise InputError(f"the registry holds no model '{name}'; it holds {', '.join(others) or 'none yet'}")
        return versions

    def show(self, name: str, which: str) -> ModelVersion:
        """Give a version by its number or alias.

        Raises:
            InputError: if the registry holds no such model or version.
        """
        versions = self.existing(name)
        for version in versions:
            if which in {version.version, *version.aliases}:
                return version
        known = ", ".join(version.version for version in versions)
        raise InputError(f"model {name} has no version or alias '{which}'; its versions are {known}")

    def champion(self, name: str) -> ModelVersion | None:
        """Give the version that serves, None if none was promoted yet."""
        return named(self.versions(name), Alias.CHAMPION)

    def set_alias(self, version: ModelVersion, alias: Alias) -> None:
        """Point an alias at a version, away from the one it named before."""
        with self._calling(f"naming {version.name} {version.version} {alias}") as client:
            client.set_registered_model_alias(version.name, alias, version.version)

    def drop_alias(self, name: str, alias: Alias) -> None:
        """Let an alias name nothing."""
        with self._calling(f"dropping alias {alias} of {name}") as client:
            client.delete_registered_model_alias(name, alias)

    def tag(self, version: ModelVersion, tags: Mapping[str, str | None]) -> None:
        """Set tags of a version; None removes one."""
        with self._calling(f"tagging {version.name} {version.version}") as client:
            for key, value in tags.items():
                if value is not None:
                    client.set_model_version_tag(version.name, version.version, key, value)
                elif key in version.tags:
                    client.delete_model_version_tag(version.name, version.version, key)

    def untag(self, version: ModelVersion, tag: str) -> None:
        """Remove a tag of a version, whether or not it was there when the version was read."""
        with self._calling(f"untagging {version.name} {version.version}") as client:
            client.delete_model_version_tag(version.name, version.version, tag)

    def log_file(self, version: ModelVersion, file: Path, path: str) -> None:
        """Keep a file among the artifacts of the version's run, in the folder ``path``."""
        with self._calling(f"uploading {file.name} to run {version.run_id}") as client:
            client.log_artifact(version.run_id, str(file), path)

    def read_file(self, version: ModelVersion, path: str) -> bytes:
        """Read one artifact of the version's run."""
        with (
            tempfile.TemporaryDirectory() as folder,
            self._calling(f"reading {path} of run {version.run_id}") as client,
        ):
            return Path(client.download_artifacts(version.run_id, path, folder)).read_bytes()

    def download(self, name: str, which: str, models: Path) -> Path:
        """Give a local folder with a version's bundle, every digest of it checked.

        Args:
            name: Registered model.
            which: Version number or alias.
            models: Folder of bundles by digest; one that lies there intact is not fetched again.

        Raises:
            IntegrityError: if the registry's files are not those that were registered.
            InputError: if the registry holds no such model or version.
        """
        version = self.show(name, which)
        folder = models / version.digest
        if folder.exists():
            try:
                read_any_bundle(folder, version.digest)
            except IntegrityError:
                shutil.rmtree(folder)  # a copy; the registry's own files decide
            else:
                return folder
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=models, prefix=".download-") as temporary:
            fetched = self._fetch(version, Path(temporary))
            read_any_bundle(fetched, version.digest)
            try:
                fetched.rename(folder)
            except OSError:
                if not folder.exists():  # else another process has just brought the same bytes
                    raise
        return folder

    def _fetch(self, version: ModelVersion, into: Path) -> Path:
        if not version.digest:
            raise IntegrityError(
                f"{version.name} {version.version} has no digest in the registry: not a model of mscflow"
            )
        with self._calling(f"fetching {version.name} {version.version} from {version.source}"):
            from mlflow.artifacts import download_artifacts

            return Path(download_artifacts(version.source, dst_path=str(into), tracking_uri=self.uri))

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold back other processes of this machine that would change the same model."""
        database = tracking.sqlite_path(self.uri)
        if database is not None:
            return tracking.lock_file(database.with_name(f"{database.name}.{name}.lock"))
        if self.home is not None:
            return tracking.lock_file(self.home / "locks" / f"{name}.lock")
        return nullcontext()

    def _search(self, name: str | None, *further: str) -> list[ModelVersion]:
        terms = [f"name = '{name}'", *further] if name else []
        with self._calling("listing models") as client:
            # Aliases first, so that each finds its version among those read next.
            aliases = _aliases(client, name)
            return [_version(found, aliases) for found in _pages(client.search_model_versions, " and ".join(terms))]

    def _calling(self, doing: str) -> "AbstractContextManager[MlflowClient]":
        return tracking.calling(self.uri, doing)


def weights_place(digest: str) -> str:
    """Give the folder, among a run's artifacts, that keeps the weights of the model with this digest."""
    return f"weights-{digest[:12]}"


def _facts(bundle: Bundle | DetectorBundle) -> dict[str, str]:
    return {
        "data_version": bundle.data_version,
        "split_id": bundle.split_id,
        "model_code_version": bundle.code_version,
    }


def named(versions: Iterable[ModelVersion], alias: Alias) -> ModelVersion | None:
    """Give the one of a model's versions that has the alias, None if none has."""
    return next((version for version in versions if alias in version.aliases), None)


def _aliases(client: "MlflowClient", name: str | None) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for model in _pages(client.search_registered_models, f"name = '{name}'" if name else ""):
        for alias, version in model.aliases.items():
            found.setdefault((model.name, str(version)), []).append(alias)
    return found


def _pages(search: Callable[..., Any], condition: str) -> Iterator[Any]:
    token = None
    while True:
        page = search(condition, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(found: "MlflowVersion", aliases: Mapping[tuple[str, str], list[str]]) -> ModelVersion:
    number = str(found.version)  # an int through sqlite, a str through a server
    return ModelVersion(
        name=found.name,
        version=number,
        aliases=tuple(sorted(aliases.get((found.name, number), ()))),
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        digest=found.tags.get("digest", ""),
        run_id=found.run_id or "",
        source=found.source or "",
        tags=dict(found.tags),
    )
