"""The rollout steps as KFP components; what they do is in ``components.deployment.steps``."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def deploy(name: str, version: str, settings: dict) -> NamedTuple("Outputs", [("url", str), ("result", dict)]):
    """Put the version behind the endpoint; if anything fails, what served before serves on."""
    from components.deployment import steps
    from components.events import step
    from components.settings import ServingSettings, load_settings

    with step("deploy") as report:
        own = load_settings()
        result = steps.deploy(name, version, own.mlflow_uri, own.home, ServingSettings.model_validate(settings))
        report(result)
    return result["url"], result


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def verify(url: str, name: str, deployed: dict) -> NamedTuple("Outputs", [("result", dict)]):
    """Ask the endpoint about an image with a known answer and check which version replied."""
    from components.deployment import steps
    from components.events import step
    from components.settings import load_settings

    with step("verify") as report:
        result = steps.verify_known(url, name, deployed["digest"], load_settings().home)
        report(result)
    return (result,)
