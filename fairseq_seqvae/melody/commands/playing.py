"""The commands `studio` and `studio-model`: a web page to play with a trained model, and the models that it plays."""

import argparse
import contextlib
import logging
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from fairseq_seqvae.melody.commands.shared import add_grid_option, meter
from fairseq_seqvae.support.command_line import Commands, refuse_existing, whole
from fairseq_seqvae.support.files import whole_file


def add_studio(commands: Commands) -> None:
    """The command `studio`."""
    added = commands.add(
        "studio", run_studio, "a web page on this machine to play with a trained model", "studio --port 8000"
    )
    added.add_argument(
        "--model",
        action="append",
        type=Path,
        metavar="CHECKPOINT",
        help="checkpoint of melodies, or folder of studio-model; once per meter (default: the models that ship)",
    )
    added.add_argument("--meter", type=meter, help="such as 6/8: the one that the page begins with (default: 4/4)")
    added.add_argument("--port", type=whole(0), default=8000, help="0: any free one (default: %(default)s)")
    added.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    added.add_argument("--no-browser", action="store_true", help="open no browser, only print the address")
    added.add_argument("--export", type=Path, metavar="FILE", help="write a page that plays without a server, and end")
    added.add_argument("--force", action="store_true", help="overwrite the file of --export")


def add_studio_model(commands: Commands) -> None:
    """The command `studio-model`."""
    added = commands.add(
        "studio-model",
        run_studio_model,
        "the folder of a model that the studio plays, with sliders and tunes",
        "studio-model checkpoint_last.pt --data DATA --out FOLDER",
    )
    added.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file that fairseq-train wrote")
    added.add_argument("--data", type=Path, required=True, metavar="DATA", help="folder of fairseq-preprocess")
    added.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    added.add_argument("--meter", type=meter, help="such as 4/4 or 6/8 (default: the first that divides the length)")
    added.add_argument("--common-key", action="store_true", help="the data were cut with --common-key")
    add_grid_option(added)
    added.add_argument(
        "--weights-of",
        metavar="NAME",
        help="folder beside that of --out that has the weights of this checkpoint already, for another meter",
    )
    added.add_argument("--origin", default="", help="where the melodies come from, for the card")
    added.add_argument("--force", action="store_true", help="overwrite existing files")


def run_studio(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C, or write it as one file."""
    # Here, not above: the other commands need none of it.
    from fairseq_seqvae.melody.studio import serving

    paths = serving.model_paths(args.model, _text(args.meter))
    with _quiet():
        if args.export is None:
            _serve(args, paths)
        else:
            _export(args, paths[0])


def _text(meter: tuple[int, int] | None) -> str | None:
    return None if meter is None else f"{meter[0]}/{meter[1]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what fairseq tells of its own work; its import sets the root logger to DEBUG."""
    loggers = [logging.getLogger(name) for name in ("fairseq", "fairseq_seqvae")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _serve(args: argparse.Namespace, paths: list[Path]) -> None:
    from fairseq_seqvae.melody.studio import serving
    from fairseq_seqvae.melody.studio.server import StudioServer

    if args.port > 65535:
        raise ValueError(f"--port {args.port} is above 65535: choose another")
    opening = serving.Opening(paths)
    try:
        server = StudioServer(args.host, args.port, serving.routes(opening))
    except OSError as error:
        raise OSError(
            f"cannot listen on --host {args.host} --port {args.port} ({error.strerror or error}): choose another --port"
        ) from None
    threading.Thread(target=server.serve_forever, name="studio server", daemon=True).start()
    print(f"the melody studio plays at {server.address}\nCtrl-C ends it", flush=True)
    if not server.is_private:
        print(f"--host {args.host}: anyone who reaches this machine can use the studio; it has no password", flush=True)
    if not args.no_browser:
        threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
    try:
        opening.failed.wait()
    except KeyboardInterrupt:
        print("", file=sys.stderr)
    finally:
        server.shutdown()
        server.server_close()
    if opening.failed.is_set():
        raise ValueError(opening.problem)


def _export(args: argparse.Namespace, path: Path) -> None:
    from fairseq_seqvae.melody.studio import keepsake, serving

    refuse_existing([args.export], args.force)
    first = serving.first_grids([path])
    data = next(iter(first.values()), None) or serving.drawn_grid(path)
    with whole_file(args.export) as partial:
        partial.write_text(keepsake.write_page(data), encoding="utf-8", newline="\n")
    print(f"{args.export}: {args.export.stat().st_size / 2**10:.0f} KiB, plays without a server")


def run_studio_model(args: argparse.Namespace) -> None:
    """Write the folder of a model."""
    from fairseq_seqvae.melody.studio import package

    refuse_existing([args.out / package.CARD], args.force)
    request = package.Request(
        checkpoint=args.checkpoint,
        data=args.data,
        out=args.out,
        meter=_text(args.meter),
        origin=args.origin,
        common_key=args.common_key,
        weights_of=args.weights_of,
        steps_per_quarter=args.steps_per_quarter,
    )
    card = package.make(request)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(
        f"{args.out}: {size / 1e6:.1f} MB; gives back {card['reconstruction']['notes']:.1%} of the notes of "
        f"{card['held_out_melodies']} held-out melodies"
    )
