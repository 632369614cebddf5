"""dafxhost new: a package that adds an effect, an encoder or a gradient estimator, ready to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dafxhost_cli.console import note, result

new = typer.Typer(
    name="new",
    help="Write a package that adds something of your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Lower case, words joined by hyphens, e.g. my-gain.")
]
DirectoryOption = Annotated[
    Path, typer.Option("--directory", help="Where its folder NAME is made.", show_default="here")
]


@new.command()
def effect(name: NameArgument, directory: DirectoryOption = Path(".")) -> None:
    """Write a package with an effect: a gain to begin with."""
    _create("effect", name, directory)


@new.command()
def encoder(name: NameArgument, directory: DirectoryOption = Path(".")) -> None:
    """Write a package with an audio encoder: two levels to begin with."""
    _create("encoder", name, directory)


@new.command()
def estimator(name: NameArgument, directory: DirectoryOption = Path(".")) -> None:
    """Write a package with a gradient estimator: one parameter at random to begin with."""
    _create("estimator", name, directory)


def _create(kind: str, name: str, directory: Path) -> None:
    module = module_name(kind, name)
    folder = directory / name
    _write(folder, _files(kind, name, module))
    result(str(folder))
    note(f"next: pip install -e {folder} && pytest {folder}; then change {module}.py")


def module_name(kind: str, name: str) -> str:
    """The module of a package of that name, after a look at whether the name can be used.

    Raises:
        UsageError: it is no name of a distribution and a module, or it is taken.
    """
    import importlib.util
    import keyword
    import re
    import sys

    from dafxhost.errors import UsageError
    from dafxhost.registry import registry

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 60:
        raise UsageError(
            f"{name!r} cannot be a package's name; use lower-case letters, digits and single hyphens, "
            "beginning with a letter and at most 60 in all, e.g. my-gain"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise UsageError(
            f"{name!r} is a word or module of Python itself; choose another name, e.g. my-{name}"
        )
    if name in registry().names(kind):
        raise UsageError(f"there is an {kind} named {name!r} already; choose another name")
    if importlib.util.find_spec(module) is not None:
        raise UsageError(f"there is a module {module!r} in this environment already; choose another name")
    return module


def _files(kind: str, name: str, module: str) -> dict[str, str]:
    """File name -> text."""
    from dafxhost_cli import templates

    words = {
        "@name@": name,
        "@module@": module,
        "@Class@": "".join(word.capitalize() for word in name.split("-")) + templates.SUFFIX[kind],
        "@kind@": kind,
        "@arguments@": "" if kind == "effect" else f', kind="{kind}"',
        "@try@": templates.TRY[kind].replace("@name@", name),
    }

    def filled(text: str) -> str:
        for mark, word in words.items():
            text = text.replace(mark, word)
        return text

    return {
        "pyproject.toml": filled(templates.PYPROJECT),
        f"{module}.py": filled(templates.MODULES[kind]),
        f"test_{module}.py": filled(templates.TESTS[kind]),
        "README.md": filled(templates.README),
    }


def _write(folder: Path, files: dict[str, str]) -> None:
    """All files in a new folder, or none.

    Raises:
        UsageError: the folder is there already. OutputError: it cannot be written.
    """
    import shutil

    from dafxhost.errors import OutputError, UsageError

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        there = folder if folder.exists() else folder.parent
        raise UsageError(f"{there} is there already; choose another name or --directory") from None
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}") from error
    try:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(f"cannot write into {folder}: {error.strerror}") from error
