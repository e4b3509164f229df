"""The rollout steps as KFP components; what they do is in ``components.deployment.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def deploy(
    name: str,
    version: str,
    settings: dict,
    rolling: dict = {},  # noqa: B006  KFP takes defaults from the signature, and never changes them
) -> NamedTuple("Outputs", [("url", str), ("digest", str), ("result", str)]):
    """Put the version behind the endpoint; if anything fails, what served before serves on."""
    from components.deployment import steps
    from components.events import as_text, step
    from components.rollout import Rolling
    from components.settings import ServingSettings, load_settings

    with step("deploy") as report:
        own = load_settings()
        serving, where = ServingSettings.model_validate(settings), Rolling.model_validate(rolling)
        result = steps.deploy(name, version, own.mlflow_uri, own.home, serving, own.store_uri, where)
        report(result)
    return result["url"], result["digest"], as_text(result)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def verify(url: str, name: str, digest: str) -> NamedTuple("Outputs", [("result", str)]):
    """Ask the endpoint about an image with a known answer and check which version replied."""
    from components.deployment import steps
    from components.events import as_text, step
    from components.settings import load_settings

    with step("verify") as report:
        own = load_settings()
        result = steps.verify_known(url, name, digest, own.mlflow_uri, own.home)
        report(result)
    return (as_text(result),)
