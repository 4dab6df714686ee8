"""The command `amc-tf setup`: isolated packages made ahead of their first use, checked and repaired."""

import sys

import click

from amc_tf.commands.exits import FAILED, ending
from amc_tf.errors import SetupError
from amc_tf.isolated.folder import Folder
from amc_tf.isolated.install import install
from amc_tf.isolated.packages import PACKAGES, Package
from amc_tf.isolated.provide import imports, in_place


@click.command()
@click.argument("packages", nargs=-1, type=click.Choice(list(PACKAGES)))
@click.option(
    "--check",
    is_flag=True,
    help="Compare every file with what was installed, import each package, and repair what is broken.",
)
@click.pass_context
def setup(context: click.Context, packages: tuple[str, ...], check: bool) -> None:
    """Install the packages that would hold your environment back, apart from it, before they are needed.

    They lie in a folder of your cache, one a package, Python and TensorFlow; AMC_TF_CACHE names another place. Without
    PACKAGES, all that this Python can have.

    Exit codes: 0 all is well, 1 something could not be installed, 70 an internal error, 130 stopped.
    """
    failed = False
    with ending(context, stopped="stopped; nothing half-made was left."):
        for name in packages or PACKAGES:
            package = PACKAGES[name]
            if package.refusal and not packages:
                click.echo(f"{name}: not for this Python ({package.refusal})")
                continue
            try:
                click.echo(f"{name}: {_checked(package) if check else _made(package)}")
            except SetupError as error:
                failed = True
                click.echo(f"{context.command_path}: {error}", err=True)
    sys.exit(FAILED if failed else 0)


def _made(package: Package) -> str:
    """Installs a package where that is needed, and says where it is."""
    if in_place(package):
        return "this environment has it"
    folder = Folder(package)
    if folder.fault() is not None:
        install(folder)
    return str(folder.path)


def _checked(package: Package) -> str:
    """Installs a package anew where it is broken, and says what was found."""
    if in_place(package):
        return "this environment has it, and it can be imported"
    folder = Folder(package)
    if not folder.exists:
        return "not installed yet; it will be when it is needed"
    repaired = ""
    if (fault := folder.fault()) is not None:
        install(folder)
        repaired = f", after it was repaired ({fault})"
    if (said := imports(package, folder.path)) is not None:
        raise SetupError(
            f"{package.name} in {str(folder.path)!r} is as it was installed but cannot be imported ({said}): delete "
            f"that folder and run `amc-tf setup {package.name}`; if that does not help, please report it."
        )
    return f"{folder.path}, every file as installed{repaired}"
