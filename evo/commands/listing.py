"""`evo list`."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from evo.registry import STRATEGY, TASK, describe


@dataclass(frozen=True)
class List:
    """Strategies, tasks and configs, each with one line."""

    def __call__(self, console: Console) -> int:
        from evo.configs import configs

        about = {name: text.split("\n")[0].removeprefix("#").strip() for name, text in configs().items()}
        tables = {"strategies": describe(STRATEGY), "tasks": describe(TASK), "configs": about}
        for title, lines in tables.items():
            console.print(f"[bold]{title}[/]", markup=True)
            width = max(map(len, lines))
            for name, line in lines.items():
                console.print(f"  {name:{width}}  {line}", soft_wrap=True)
        return 0
