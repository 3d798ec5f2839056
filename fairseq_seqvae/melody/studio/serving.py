"""Starting the studio: what of a model the page can play at once, and what it asks of the model later."""

import json
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fairseq_seqvae.melody.studio import keepsake
from fairseq_seqvae.melody.studio.server import Reply, Routes, Upload, as_json
from fairseq_seqvae.melody.studio.wire import BusyError

SHIPPED = Path(__file__).parent / "model"
_FIRST = "4-4"  # of the models that ship
PATIENCE = 60.0  # seconds that a request waits for the models to be opened
OPERATIONS = ("decode", "grid", "blend", "variations", "continue")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def model_paths(named: Sequence[Path] | None, meter: str | None = None) -> list[Path]:
    """The checkpoints or folders that --model names, or else the folders that ship; those in *meter* come first.

    Raises:
        FileNotFoundError: one of them does not exist, or none ships
        ValueError: none is known to be in *meter*
    """
    paths = list(named or sorted((path for path in SHIPPED.glob("*") if path.is_dir()), key=_place))
    if not paths:
        raise FileNotFoundError("no model ships with this installation: give a checkpoint to --model")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no model {path}: give a checkpoint, or a folder of studio-model")
    if meter is None:
        return paths
    meters = [_meter(path) for path in paths]
    if meter not in meters:
        known = ", ".join(sorted({found for found in meters if found})) or "none that is known"
        raise ValueError(f"no model is in --meter {meter}: there is {known}")
    return sorted(paths, key=lambda path: _meter(path) != meter)


def _place(path: Path) -> tuple[bool, str]:
    return path.name != _FIRST, path.name


def _meter(path: Path) -> str | None:
    """The meter of a folder of studio-model; that of a checkpoint is not known before it is open."""
    card = path / "card.json"
    return json.loads(card.read_text(encoding="utf-8"))["meter"] if card.is_file() else None


def first_grids(paths: Sequence[Path]) -> dict[str, Any]:
    """What the page can play before any model is there: name -> shape and grid, of models that have a grid."""
    found = {}
    for name, path in zip(names_of(paths), paths, strict=True):
        if path.is_dir() and (path / "tunes.json").is_file() and (path / "card.json").is_file():
            grid = json.loads((path / "tunes.json").read_text(encoding="utf-8")).get("grid")
            card = json.loads((path / "card.json").read_text(encoding="utf-8"))
            if grid:
                steps = card.get("steps_per_quarter", 4)
                found[name] = {"meter": card["meter"], "bars": card["bars"], "steps_per_quarter": steps, "grid": grid}
    return found


def routes(opening: "Opening") -> Routes:
    """What the server answers with the models that are being opened."""
    first = first_grids(opening.paths)
    pages = {
        f"/{file.name}": Reply(file.read_bytes(), _TYPES[file.suffix])
        for file in keepsake.PAGE.iterdir()
        if file.suffix in _TYPES
    }
    pages["/"] = pages["/index.html"]

    def save(body: Any) -> Reply:
        from fairseq_seqvae.melody.studio.files import write_download

        return Reply(*write_download(body))

    def read(upload: Upload) -> Reply:
        from fairseq_seqvae.melody.studio.files import read_upload

        steps = upload.options.get("steps_per_quarter", "4")
        return as_json(read_upload(upload.body, upload.name, upload.options.get("voice"), steps))

    def operation(name: str) -> Callable[[Any], Reply]:
        return lambda body: as_json(opening.service().operations[name](body))

    operations = {f"/api/{name}": operation(name) for name in OPERATIONS}
    return Routes(
        pages,
        {"/api/models": lambda: as_json(opening.models()), "/api/first": lambda: as_json(first)},
        {**operations, "/api/write": save},
        {"/api/read": read},
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each model: that of its folder or file, with a number if another one has it."""
    names: list[str] = []
    for path in paths:
        name = path.name if path.is_dir() else path.stem
        names.append(name if name not in names else f"{name} ({len(names) + 1})")
    return names


class Opening:
    """Opens models in the background: it takes seconds, in which the page is there already.

    Attributes:
        paths: of the models
        failed: set if one of them cannot be opened
        problem: why not
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        self.failed = threading.Event()
        self.problem = ""
        self._service: Any = None
        self._there = threading.Event()
        threading.Thread(target=self._open, name="studio start", daemon=True).start()

    def _open(self) -> None:
        try:
            from fairseq_seqvae.melody.studio.service import Service
            from fairseq_seqvae.melody.studio.worker import Worker

            workers: dict[str, Worker] = {}
            for name, path in zip(names_of(self.paths), self.paths, strict=True):
                before = list(workers.values())[-1:]
                workers[name] = Worker(partial(_open_after, before, path))
            self._service = Service(workers)
            self._there.set()
            for worker in workers.values():
                worker.model.result()
            print("ready", flush=True)
        except Exception as error:  # whatever it is, the studio ends with it
            self.problem = str(error) or type(error).__name__
            self.failed.set()
        finally:
            self._there.set()

    def service(self) -> Any:
        """The service, waited for."""
        if not self._there.wait(PATIENCE):
            raise BusyError("the model is still being opened: try again")
        if self._service is None:
            raise ValueError(f"the model cannot be opened: {self.problem}")
        return self._service

    def models(self) -> dict[str, Any]:
        """What the service says of its models; before it is there, their names."""
        if self._service is not None:
            return self._service.models()
        problem = {"error": self.problem} if self.failed.is_set() else {}
        return {"models": [{"name": name, "ready": False, **problem} for name in names_of(self.paths)]}


def _open_after(others: Sequence[Any], path: Path) -> Any:
    """The model, opened when the *others* are: what fairseq sets up is the process's, and the first is waited for."""
    from fairseq_seqvae.melody.studio.model import open_model

    for other in others:
        other.model.result()
    return open_model(path)


def drawn_grid(path: Path) -> dict[str, Any]:
    """A grid between four draws of a model that has no grid with it."""
    from fairseq_seqvae.melody.studio import wire
    from fairseq_seqvae.melody.studio.model import open_model
    from fairseq_seqvae.melody.studio.service import between_corners, draw_in_key

    model = open_model(path)
    corners = [draw_in_key(model, seed) for seed in range(1, 5)]
    side = 7
    cells = [wire.as_lists(cell) for cell in model.decode(between_corners(model, corners, side, side))]
    ends = (0, side - 1, side * (side - 1), side * side - 1)
    return {
        "meter": model.shape.meter,
        "bars": model.shape.bars,
        "steps_per_quarter": model.shape.steps_per_quarter,
        "grid": {
            "corners": [{"name": f"Draw {seed}", "notes": cells[end]} for seed, end in enumerate(ends, start=1)],
            "rows": side,
            "columns": side,
            "tunes": cells,
        },
    }
