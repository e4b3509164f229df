"""What is checked before a run begins, so that a slip costs a second and not the hours before it shows."""

from components.culture import Task
from components.rollout import Rolling
from components.settings import Settings
from components.storage import open_store


def check_run(settings: Settings, source: str) -> None:
    """Check that the source can be read, the store written, and the endpoint reached or its ports used.

    Raises:
        InputError: naming what is wrong and how to mend it.
    """
    from components.deployment.local import check_ports
    from components.deployment.places import place
    from components.models.backbones import check_size
    from components.models.pyramid import pyramid

    check_size(settings.training.backbone, settings.training.image_size)
    if settings.task == Task.ABNORMAL_CELLS:
        pyramid(settings.training.backbone)
    open_store(source, must_exist=True)
    open_store(settings.store_uri).check_writable()
    if settings.rollout.target == "kserve":
        place(settings.home, settings.serving, settings.store_uri, Rolling.of(settings.rollout, settings.cluster))
    elif settings.task == Task.CONFLUENCE:
        check_ports(settings.serving, settings.home)
