"""The page in one file: a grid that was decoded beforehand, and its player. It needs no server and no network."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page"
DATA_ID = "studio-data"
_IMPORT = re.compile(r'^import .* from "\./([\w-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const|let|function|class|async)", re.MULTILINE)


def modules_in_order(entry: str, folder: Path = PAGE) -> list[str]:
    """The names of a module and of all that it needs, each after those that it imports."""
    ordered: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"modules import each other in a circle: {' -> '.join([*above, name])}")
        for needed in _IMPORT.findall((folder / name).read_text(encoding="utf-8")):
            visit(needed, (*above, name))
        if name not in ordered:
            ordered.append(name)

    visit(entry, ())
    return ordered


def bundle(entry: str, folder: Path = PAGE) -> str:
    """One script of a module and all that it needs. Names at the top of modules must differ; imports take one line."""
    parts = []
    for name in modules_in_order(entry, folder):
        text = (folder / name).read_text(encoding="utf-8")
        parts.append(_EXPORT.sub("", _IMPORT.sub("", text)).strip())
    return '"use strict";\n(() => {\n' + "\n\n".join(parts) + "\n})();\n"


def write_page(data: dict[str, Any]) -> str:
    """The HTML of a page that plays *data*: `model` (meter, bars, steps_per_bar) and `grid`, as the page has them."""
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    style = (PAGE / "studio.css").read_text(encoding="utf-8")
    script = bundle("main.js")
    policy = f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data: blob:"
    # Within a script, HTML ends at "</"; as JSON this is the same text.
    content = json.dumps(data, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    replaced = {
        '<link rel="stylesheet" href="studio.css">': f"<style>{style}</style>",
        '<script type="module" src="main.js"></script>': (
            f'<script type="application/json" id="{DATA_ID}">{content}</script>\n<script>{script}</script>'
        ),
        '<meta charset="utf-8">': (
            f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
        ),
    }
    for old, new in replaced.items():
        if page.count(old) != 1:
            raise ValueError(f"index.html must have {old} once")
        page = page.replace(old, new)
    # The script stood in the head as a module, which waits for the page; here it stands at the end.
    head, script_tags = _take_scripts(page)
    return head.replace("</body>", f"{script_tags}\n</body>")


def _take_scripts(page: str) -> tuple[str, str]:
    start = page.index(f'<script type="application/json" id="{DATA_ID}">')
    end = page.index("</head>")
    return page[:start] + page[end:], page[start:end].strip()


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
