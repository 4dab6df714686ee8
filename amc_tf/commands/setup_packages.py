"""The command `amc-tf setup`: installs isolated packages ahead of their first use, checks and repairs them."""

import sys

import click

from amc_tf.commands.exits import FAILED, ending
from amc_tf.errors import SetupError
from amc_tf.isolated.folder import Folder
from amc_tf.isolated.install import install
from amc_tf.isolated.packages import PACKAGES, Package
from amc_tf.isolated.provide import import_failure, in_place


@click.command()
@click.argument("packages", nargs=-1, type=click.Choice(list(PACKAGES)))
@click.option(
    "--check",
    is_flag=True,
    help="Compare every file with what was installed, import each package, and repair what is broken.",
)
@click.pass_context
def setup(context: click.Context, packages: tuple[str, ...], check: bool) -> None:
    """Install the packages that would restrict your environment into folders of their own, before they are needed.

    Each package gets a folder in your cache, one per Python and TensorFlow; AMC_TF_CACHE names another cache. Without
    PACKAGES, all that this Python supports.

    Exit codes: 0 all is well, 1 something could not be installed, 70 an internal error, 130 stopped.
    """
    failed = False
    with ending(context, stopped="stopped; nothing incomplete was left."):
        for name in packages or PACKAGES:
            package = PACKAGES[name]
            if package.refusal and not packages:
                click.echo(f"{name}: not for this Python ({package.refusal})")
                continue
            try:
                click.echo(f"{name}: {_check(package) if check else _install(package)}")
            except SetupError as error:
                failed = True
                click.echo(f"{context.command_path}: {error}", err=True)
    sys.exit(FAILED if failed else 0)


def _install(package: Package) -> str:
    """Installs a package if needed. Returns where it is."""
    if in_place(package):
        return "this environment has it"
    folder = Folder(package)
    if folder.fault() is not None:
        install(folder)
    return str(folder.path)


def _check(package: Package) -> str:
    """Checks an installed package and repairs it if needed. Returns what was found."""
    if in_place(package):
        return "this environment has it, and it can be imported"
    folder = Folder(package)
    if not folder.exists:
        return "not installed yet; it will be when it is needed"
    repaired = ""
    if (fault := folder.fault()) is not None:
        install(folder)
        repaired = f", after it was repaired ({fault})"
    if (failure := import_failure(package, folder.path)) is not None:
        raise SetupError(
            f"{package.name} in {str(folder.path)!r} is as it was installed but cannot be imported ({failure}): delete "
            f"that folder and run `amc-tf setup {package.name}`; if that does not help, please report it."
        )
    return f"{folder.path}, every file as installed{repaired}"
