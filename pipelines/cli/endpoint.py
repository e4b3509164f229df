import click


@click.command()
def serve() -> None: ...
@click.command()
def predict() -> None: ...
