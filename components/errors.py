"""The errors that mscflow raises on purpose.

    MscflowError                 exit code 1: something failed that the caller did not get wrong
    ├── InputError               exit code 2: what was given cannot be used; the message says how to mend it
    │   ├── SettingsError          a setting, flag or environment variable
    │   ├── DataError              a data set: labels, groups, versions, refs
    │   │   └── ImageError           one image that cannot be read; carries a machine-readable reason
    │   ├── StorageError           an object store or disk that cannot be used
    │   │   ├── ObjectNotFound       no such object
    │   │   └── ConflictError        a compare-and-swap that somebody else won
    │   └── EndpointUnavailable    a port that is taken, an endpoint that does not answer
    ├── IntegrityError           bytes that do not have the digest they are recorded under
    ├── TrainingError            a fit or a search that ended without a model
    │   └── PeerLost               another process of the same training is gone; started again, it goes on
    ├── RegistryError            the model registry or the tracking server
    │   └── RegistryUnavailable    an InputError too: none answers under the URI that was given
    ├── ClusterError             a Kubernetes API server refused a call
    │   └── ClusterUnavailable     an InputError too: none answers, or none is known
    ├── DeploymentError          a rollout that failed and was undone
    │   ├── UnfitModel             the model, not the machine, is why
    │   └── RolloutLost            somebody else changed or deleted what was being rolled out; nothing was undone
    └── GateRefused              exit code 3: a model that the promotion policy refused

Every message names the value at fault, then the fix, in one line.
"""


class MscflowError(Exception):
    """Base of all errors that mscflow raises on purpose."""

    exit_code = 1


class InputError(MscflowError):
    """Something given to mscflow cannot be used as it is."""

    exit_code = 2


class SettingsError(InputError):
    """A setting, flag or environment variable has a value that cannot be used."""


class DataError(InputError):
    """A data set cannot be used: its labels, groups, versions or refs."""


class ImageError(DataError):
    """One image cannot be used.

    Args:
        reason: A short machine-readable word, such as ``truncated`` or ``too_large``; quarantine
            reports and the endpoint's error bodies count by it.
        message: The sentence for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StorageError(InputError):
    """An object store or a disk refuses to work: credentials, bucket, space, permissions."""


class ObjectNotFound(StorageError):
    """The object store holds no object under this key."""


class ConflictError(StorageError):
    """A conditional write lost to another writer; read again and retry."""


class EndpointUnavailable(InputError):
    """A port is taken, or no endpoint answers where one was expected."""


class IntegrityError(MscflowError):
    """Stored bytes do not have the digest they are recorded under."""


class TrainingError(MscflowError):
    """A fit or a search ended without a usable model."""


class PeerLost(TrainingError):
    """Another process of the same training is gone, which this one cannot go on without."""


class RegistryError(MscflowError):
    """The model registry or tracking server refused or lost a call."""


class RegistryUnavailable(RegistryError, InputError):
    """No tracking server or database answers under the URI that was given."""


class ClusterError(MscflowError):
    """The API server of a Kubernetes cluster refused a call."""


class ClusterUnavailable(ClusterError, InputError):
    """No API server answers, or none is known."""


class DeploymentError(MscflowError):
    """A rollout failed; what served before serves again."""


class UnfitModel(DeploymentError):
    """A rollout failed because the model cannot be loaded or does not answer as it should."""


class RolloutLost(DeploymentError):
    """Somebody else changed or deleted what was being rolled out: it is theirs now, and was left alone."""


class GateRefused(MscflowError):
    """The promotion policy refused a model."""

    exit_code = 3


def is_outage(kind: str) -> bool:
    """Whether an error with this class's name says that something was away, and the same may succeed later."""
    away = (StorageError, EndpointUnavailable, RegistryUnavailable, ClusterUnavailable)
    return issubclass(globals().get(kind, Exception), away)
