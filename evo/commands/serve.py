"""`evo archive --serve`: the page of a run that goes on, from a server of this machine.

It reads the run folder and nothing else: the run doesn't know of it. It listens on 127.0.0.1 alone, and answers only
requests that name this machine, so that no other site's page can read it through the browser.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from rich.console import Console

from evo.commands.atlas import described, exhibit
from evo.commands.opened import elite, opened
from evo.view import past
from evo.view.gather import Again, block, cells_of, judged_again, looked, told, visited, visits

if TYPE_CHECKING:
    from evo.opened import Run
    from evo.view.archive import ArchiveData

HERE = ("127.0.0.1", "localhost")


def serve(paths: tuple[Path, ...], port: int, console: Console) -> int:
    """Serve until Ctrl-C; returns 0 then."""
    first_page(paths)  # tells now what can't be shown
    if not 0 <= port < 2**16:
        raise ValueError(f"--port: wanted 0 to 65535, got {port}.")
    try:
        server = ThreadingHTTPServer((HERE[0], port), handler(paths))
    except OSError as error:
        raise ValueError(f"--port: {port} can't be had: {error.strerror}. Give another, or 0 for a free one.") from None
    console.print(f"http://{HERE[0]}:{server.server_port}  (Ctrl-C ends it; the run goes on)", soft_wrap=True)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def handler(paths: tuple[Path, ...]) -> type[BaseHTTPRequestHandler]:
    """What answers: the page, what is new, one elite's episode."""
    answers: dict[str, Callable[[dict[str, str]], tuple[str, str]]] = {
        "/": lambda query: ("text/html", first_page(paths)),
        "/news": lambda query: ("application/json", json.dumps(news(paths, query))),
        "/episode": lambda query: ("application/json", json.dumps(episode(paths, query))),
    }

    class Answer(BaseHTTPRequestHandler):
        """One request. Everything wrong with it is told as text."""

        def do_GET(self):
            """Answer by path, and only to those who call this machine by its own name."""
            url = urlsplit(self.path)
            if urlsplit("//" + self.headers.get("Host", "")).hostname not in HERE:
                return self.say(403, "text/plain", "This server answers only its own machine.")
            if url.path not in answers:
                return self.say(404, "text/plain", "There is no such page; the archive is at /.")
            try:
                self.say(200, *answers[url.path]({name: x[0] for name, x in parse_qs(url.query).items()}))
            except (ValueError, KeyError, IndexError, OSError) as error:
                self.say(400, "text/plain", str(error))

        def say(self, status: int, kind: str, text: str):
            """Send one answer, which nobody keeps."""
            content = text.encode()
            with suppress(ConnectionError):  # the page was closed while it asked
                self.send_response(status)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any):
            """Print nothing."""

    return Answer


def first_page(paths: tuple[Path, ...]) -> str:
    """The page as the run stands, without episodes: those are asked for."""
    from evo.view.page import page

    runs = [opened(path) for path in paths]
    return page([exhibit(run, standing(run)) for run in runs], live=True)


def news(paths: tuple[Path, ...], query: dict[str, str]) -> list[dict[str, Any] | None]:
    """For each run what a page lacks that has the `first` arrivals and so many `generations`; None: nothing."""
    have = [query["first"].split(","), query["generations"].split(",")]
    return [latest(path, int(first), int(done)) for path, first, done in zip(paths, *have, strict=True)]


def latest(path: Path, first: int, generations: int) -> dict[str, Any] | None:
    """What is new of one run for a page that has its `first` arrivals and so many generations; None: nothing."""
    from evo.view import page
    from evo.view.archive import checked, summary

    run = opened(path)
    if run.generations <= generations and len(run.folder.arrivals) <= first:
        return None
    data = checked(standing(run))
    part, columns = page.past(data, newcomers(run, data, first), first), page.columns_of(data)
    told = {"generations": run.generations, "summary": summary(data), "meta": list(described(run).items())}
    return {"past": part, "columns": columns, **told}


def newcomers(run: Run, data: ArchiveData, first: int) -> np.ndarray | None:
    """Which member of its generation each arrival was, told only from the `first` on; -1 before."""
    if data.past is None:
        return None
    rows = data.past[first:]
    if not len(rows):
        return np.full(len(data.past), -1)
    since, records = int(rows["generation"].min()), run.folder.records
    late = rows.copy()
    late["generation"] -= since
    columns = (records.column(name)[since:] for name in ("fitness", "descriptor"))
    return np.concatenate([np.full(first, -1), past.members(late, *columns)])


def standing(run: Run) -> ArchiveData:
    """The archive with its visits, and with what its elites showed later as of the last checkpoint: looks are in the
    run's state, and to tell that anew from the records every second would take too long."""
    data, whole = told(run), run.generations // block(run)
    columns = dict(data.columns or {})
    if hasattr(cells_of(run), "cell"):  # else elites have no places of their own: nothing is filed anywhere
        columns["visits"] = visits(run, lambda run, i: counted(run.path, i).copy() if i < whole else visited(run, i))
    return data._replace(columns=columns | judged_again(run, data.fitness, seen(run)))


def seen(run: Run) -> Again | None:
    """The run's later looks at its elites as of the last checkpoint that can be read; None where it takes none."""
    if not getattr(run.strategy, "looks", 0):
        return None
    there = [int(x.name) for x in (run.path / "checkpoints").iterdir() if x.name.isdigit()]
    for generation in sorted((g for g in there if g <= run.generations), reverse=True):
        with suppress(ValueError):  # torn, or gone by now
            return seen_at(run.path, generation)
    return None


@lru_cache(maxsize=8)
def seen_at(path: Path, generation: int) -> Again | None:
    """The later looks as a checkpoint has them, read once."""
    return looked(opened(path), generation)


@lru_cache(maxsize=4096)
def counted(path: Path, index: int) -> np.ndarray:
    """The visits in a block of generations that are all there, counted once."""
    return visited(opened(path), index)


def episode(paths: tuple[Path, ...], query: dict[str, str]) -> dict[str, Any]:
    """An episode, rebuilt from the last checkpoint and the records: of the elite that lives in a `cell` now, or of a
    `member` of a `generation`, an ancestor."""
    from evo.commands.look import filmed
    from evo.view import embed

    run = kept(paths[int(query["run"])])
    if "member" in query:
        return embed.episode(filmed(run, run.member(int(query["generation"]), int(query["member"]))))
    return embed.episode(filmed(run, elite(run, int(query["cell"]))))


@lru_cache(maxsize=2)
def kept(path: Path) -> Run:
    """The run, opened once: its programs are compiled for the first elite that is played, and serve the next ones."""
    return opened(path)
