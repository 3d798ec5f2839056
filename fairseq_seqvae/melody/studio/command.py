"""The commands `studio` and `studio-model` of `python -m fairseq_seqvae.melody`."""

import argparse
import json
import logging
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any

from fairseq_seqvae.melody.studio import keepsake
from fairseq_seqvae.support.command_line import Commands, refuse_existing, whole
from fairseq_seqvae.support.files import whole_file

SHIPPED = Path(__file__).parent / "model"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def add_studio(commands: Commands) -> None:
    """The command `studio`."""
    added = commands.add(
        "studio", _studio, "a web page on this machine to play with a trained model", "studio --port 8000"
    )
    added.add_argument(
        "--model",
        action="append",
        type=Path,
        metavar="CHECKPOINT",
        help="checkpoint of melodies, or folder of studio-model; once per meter (default: the model that ships)",
    )
    added.add_argument("--port", type=whole(0), default=8000, help="0: any free one (default: %(default)s)")
    added.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    added.add_argument("--no-browser", action="store_true", help="open no browser, only print the address")
    added.add_argument("--export", type=Path, metavar="FILE", help="write a page that plays without a server, and end")
    added.add_argument("--force", action="store_true", help="overwrite the file of --export")


def add_studio_model(commands: Commands) -> None:
    """The command `studio-model`."""
    added = commands.add(
        "studio-model",
        _studio_model,
        "the folder of a model that the studio plays, with sliders and tunes",
        "studio-model checkpoint_last.pt --data DATA --out FOLDER",
    )
    added.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file that fairseq-train wrote")
    added.add_argument("--data", type=Path, required=True, metavar="DATA", help="folder of fairseq-preprocess")
    added.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    added.add_argument("--meter", help="such as 4/4 or 6/8 (default: the first that divides the length)")
    added.add_argument("--origin", default="", help="where the melodies come from, for the card")
    added.add_argument("--force", action="store_true", help="overwrite existing files")


def _paths(args: argparse.Namespace) -> list[Path]:
    """What --model names, or the folders that ship."""
    paths = args.model or sorted(SHIPPED.glob("*/")) or []
    if not paths:
        raise FileNotFoundError("no model ships with this installation: give a checkpoint to --model")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no model {path}: give a checkpoint, or a folder of studio-model")
    return paths


def _studio(args: argparse.Namespace) -> None:
    paths = _paths(args)
    if args.export is not None:
        _export(args, paths[0])
        return
    if args.port > 65535:
        raise ValueError(f"--port {args.port} is above 65535: choose another")
    # What fairseq tells of its own work is of no use here; its import sets the root logger to DEBUG.
    for name in ("fairseq", "fairseq_seqvae"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from fairseq_seqvae.melody.studio.server import StudioServer

    first = _first_grids(paths)
    try:
        server = StudioServer(args.host, args.port, _routes(paths, first))
    except OSError as error:
        raise OSError(f"cannot listen on {args.host}, port {args.port} ({error.strerror}): choose another --port") from None
    print(f"the melody studio plays at {server.address}\nCtrl-C ends it", flush=True)
    if not args.no_browser:
        threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("", file=sys.stderr)
    finally:
        server.server_close()


def _first_grids(paths: list[Path]) -> dict[str, Any]:
    """What the page can play before any model is there: name -> shape and grid, of models that have a grid."""
    found = {}
    for path in paths:
        if path.is_dir() and (path / "tunes.json").is_file() and (path / "card.json").is_file():
            grid = json.loads((path / "tunes.json").read_text(encoding="utf-8")).get("grid")
            card = json.loads((path / "card.json").read_text(encoding="utf-8"))
            if grid:
                found[path.name] = {"meter": card["meter"], "bars": card["bars"], "grid": grid}
    return found


def _routes(paths: list[Path], first: dict[str, Any]) -> Any:
    from fairseq_seqvae.melody.studio.server import Reply, Routes, Upload, as_json

    pages = {
        f"/{file.name}": Reply(file.read_bytes(), _TYPES[file.suffix])
        for file in keepsake.PAGE.iterdir()
        if file.suffix in _TYPES
    }
    pages["/"] = pages["/index.html"]
    later = _Later(paths)

    def save(body: Any) -> Reply:
        from fairseq_seqvae.melody.studio.files import write_download

        return Reply(*write_download(body))

    def read(upload: Upload) -> Reply:
        from fairseq_seqvae.melody.studio.files import read_upload

        return as_json(read_upload(upload.body, upload.name, upload.options.get("voice")))

    def operation(name: str) -> Any:
        return lambda body: as_json(later.service().operations[name](body))

    operations = {f"/api/{name}": operation(name) for name in ("decode", "grid", "blend", "variations", "continue")}
    return Routes(
        pages,
        {"/api/models": lambda: as_json(later.models()), "/api/first": lambda: as_json(first)},
        {**operations, "/api/write": save},
        {"/api/read": read},
    )


class _Later:
    """The service, made in the background: its imports take seconds, in which the page is there already."""

    def __init__(self, paths: list[Path]):
        self._names = [path.name if path.is_dir() else path.stem for path in paths]
        self._paths = paths
        self._service: Any = None
        self._problem: Exception | None = None
        self._there = threading.Event()
        threading.Thread(target=self._make, name="studio start", daemon=True).start()

    def _make(self) -> None:
        try:
            from fairseq_seqvae.melody.studio.model import open_model
            from fairseq_seqvae.melody.studio.service import Service
            from fairseq_seqvae.melody.studio.worker import Worker

            workers = {}
            for name, path in zip(self._names, self._paths, strict=True):
                workers[name] = Worker(lambda path=path: open_model(path))
                problem = workers[name].model.exception()  # waits: one after the other, fairseq's set-up is global
                if problem is not None:
                    print(f"{path} cannot be played: {problem}", file=sys.stderr, flush=True)
            self._service = Service(workers)
            print("ready", flush=True)
        except Exception as error:  # those who wait must hear of it
            self._problem = error
            print(f"the studio cannot start: {error}", file=sys.stderr, flush=True)
        finally:
            self._there.set()

    def service(self) -> Any:
        """The service, waited for."""
        self._there.wait()
        if self._problem is not None:
            raise ValueError(f"the studio could not start: {self._problem}")
        return self._service

    def models(self) -> dict[str, Any]:
        """What the service says of its models; before it is there, their names."""
        if self._service is None:
            problem = {"error": str(self._problem)} if self._problem else {}
            return {"models": [{"name": name, "ready": False, **problem} for name in self._names]}
        return self._service.models()


def _export(args: argparse.Namespace, path: Path) -> None:
    refuse_existing([args.export], args.force)
    first = _first_grids([path])
    data = first[path.name] if first else _drawn_grid(path)
    with whole_file(args.export) as partial:
        partial.write_text(keepsake.write_page(data), encoding="utf-8", newline="\n")
    print(f"{args.export}: {args.export.stat().st_size / 2**10:.0f} KiB, plays without a server")


def _drawn_grid(path: Path) -> dict[str, Any]:
    """A grid between four draws of a model that has no grid with it."""
    from fairseq_seqvae.melody.studio import wire
    from fairseq_seqvae.melody.studio.model import open_model
    from fairseq_seqvae.melody.studio.service import between_corners

    model = open_model(path)
    corners = [model.draw(seed) for seed in range(1, 5)]
    side = 7
    cells = [wire.as_lists(cell) for cell in model.decode(between_corners(model, corners, side, side))]
    ends = (0, side - 1, side * (side - 1), side * side - 1)
    return {
        "meter": model.shape.meter,
        "bars": model.shape.bars,
        "grid": {
            "corners": [{"name": f"Draw {seed}", "notes": cells[end]} for seed, end in enumerate(ends, start=1)],
            "rows": side,
            "columns": side,
            "tunes": cells,
        },
    }


def _studio_model(args: argparse.Namespace) -> None:
    from fairseq_seqvae.melody.studio import package

    refuse_existing([args.out / package.WEIGHTS], args.force)
    request = package.Request(args.checkpoint, args.data, args.out, args.meter, origin=args.origin)
    card = package.make(request)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(
        f"{args.out}: {size / 2**20:.1f} MiB; gives back {card['reconstruction']['notes']:.1%} of the notes of "
        f"{card['held_out_melodies']} held-out melodies"
    )
