"""Experiments as data, one YAML file each; the first line of each says what it is."""

import importlib.resources


def configs() -> dict[str, str]:
    """The text of every config that ships with the package, by name."""
    files = [file for file in importlib.resources.files(__name__).iterdir() if file.name.endswith(".yaml")]
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in sorted(files, key=lambda f: f.name)
    }
