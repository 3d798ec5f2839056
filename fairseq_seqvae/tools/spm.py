"""Train a sentencepiece model, and split sentences into its pieces and join them again.

    python -m fairseq_seqvae spm train --input train.txt --vocab-size 2000 --prefix spm
    for split in train valid test; do
        python -m fairseq_seqvae spm encode --model spm.model < $split.txt > $split.pieces
    done
    fairseq-preprocess --only-source --trainpref train.pieces ...
    python -m fairseq_seqvae spm decode --model spm.model < generated.pieces > generated.txt

`fairseq-preprocess` makes its dictionary from the pieces; the vocabulary file of sentencepiece is not needed for it.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairseq_seqvae.support.files import whole_file


def read_lines(path: Path) -> list[str]:
    """Return the lines that are not blank; ValueError if there are none or they are not UTF-8."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not UTF-8 (byte {error.start}): convert it first") from error
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise ValueError(f"'{path}' has no text")
    return lines


def load_model(path: Path) -> Any:
    """Return the sentencepiece processor of a model file; ValueError if the file is something else."""
    import sentencepiece

    model = path.read_bytes()
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        processor.encode("a")  # an empty file is refused only here
        return processor
    except Exception as error:  # depending on the version a RuntimeError or another
        raise ValueError(f"'{path}' is not a sentencepiece model") from error


def train(args: argparse.Namespace) -> None:
    """Write PREFIX.model and PREFIX.vocab."""
    import sentencepiece

    model_path, vocab_path = (Path(f"{args.prefix}{suffix}") for suffix in (".model", ".vocab"))
    for path in (model_path, vocab_path):
        if path.exists() and not args.force:
            raise ValueError(f"'{path}' exists: give another --prefix, or --force to overwrite it")
    if not model_path.absolute().parent.is_dir():
        raise ValueError(f"the folder of --prefix does not exist: '{model_path.parent}'")
    if args.vocab_size < 1:
        raise ValueError(f"--vocab-size must be positive but is {args.vocab_size}")
    lines = [line for path in args.input for line in read_lines(path)]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=args.vocab_size,
            model_type=args.model_type,
            character_coverage=args.character_coverage,
            minloglevel=1,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"sentencepiece refused to train with --vocab-size {args.vocab_size}: {reason(error)}"
        ) from error
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocab = "".join(f"{pieces.id_to_piece(i)}\t{pieces.get_score(i):g}\n" for i in range(pieces.get_piece_size()))
    _write(model_path, model.getvalue())
    _write(vocab_path, vocab.encode())


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)


def reason(error: Exception) -> str:
    """Return what sentencepiece complains about, without the place in its C++ source and without the final stop."""
    return str(error).strip().rsplit("] ", 1)[-1].rstrip(" .") or type(error).__name__


def convert(args: argparse.Namespace) -> None:
    """Encode or decode standard input to standard output, line by line; an empty line stays one."""
    model = load_model(args.model)
    streams: tuple[Any, Any] = sys.stdin, sys.stdout
    for stream in streams:
        stream.reconfigure(encoding="utf-8", newline="\n")
    for line in sys.stdin:
        text = line.rstrip("\r\n")
        print(" ".join(model.encode(text, out_type=str)) if args.command == "encode" else model.decode(text.split()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fairseq_seqvae spm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    trainer = commands.add_parser("train", help="train a model", description="Train a sentencepiece model.")
    trainer.add_argument("--input", nargs="+", required=True, type=Path, metavar="FILE", help="text, a sentence a line")
    trainer.add_argument("--vocab-size", required=True, type=int, metavar="N", help="number of pieces")
    trainer.add_argument("--prefix", required=True, metavar="PATH", help="write PATH.model and PATH.vocab")
    trainer.add_argument("--model-type", choices=("unigram", "bpe", "char", "word"), default="unigram")
    trainer.add_argument(
        "--character-coverage",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the characters' occurrences to cover; the rarest others become unknown (default: %(default)s)",
    )
    trainer.add_argument("--force", action="store_true", help="overwrite an existing model")
    trainer.set_defaults(run=train)
    for name, text in (
        ("encode", "split each line of standard input into pieces, separated by blanks"),
        ("decode", "join the pieces of each line of standard input to text"),
    ):
        converter = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        converter.add_argument("--model", required=True, type=Path, metavar="FILE", help="the .model file of `train`")
        converter.set_defaults(run=convert)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 1 after one sentence about bad input on standard error."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("spm: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
    except OSError as error:
        print(f"spm: cannot read or write '{error.filename}': {error.strerror}.", file=sys.stderr)
    except ModuleNotFoundError as error:
        print(
            f"spm: the module `{error.name}` is missing: activate the environment whose folder `scripts/setup-env` "
            "prints, and try again.",
            file=sys.stderr,
        )
    except UnicodeDecodeError as error:
        print(f"spm: standard input is not UTF-8 (byte {error.start}): convert it first.", file=sys.stderr)
    except ValueError as error:
        print(f"spm: {error}.", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
