"""Two rigs, one item: what the README's picture shows, run for real and drawn as SVG."""

from __future__ import annotations

import html
import os
import re
import subprocess
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "docs" / "session.svg"
BEFORE = (
    'ada: wl create acme/commons --name Acme --handle ada --remote-base hub',
    'ada: wl config set mode wild-west',
    'bob: wl join acme/commons --direct --handle bob --remote-base hub',
    'bob: wl config set mode wild-west',
)  # fmt: skip
# Who types what; `ITEM` and `STAMP` stand for the ids that the commands before have printed.
SHOWN = (
    'ada: wl post --title "Explain the tides" --type docs --effort small',
    'bob: wl claim ITEM',
    'bob: wl done ITEM --evidence https://example.com/tides',
    'bob: wl accept ITEM --quality 5',
    'ada: wl accept ITEM --quality 4 --reliability 5 --message "Clear, and short enough."',
    'bob: wl verify stamp STAMP',
)  # fmt: skip
KEPT = re.compile(r"✓|wl: |Leased until|Completion:|Quality:|Stamp: |VERIFIED|signature|chain|row |context")
WIDTH, LINE, LEFT, TOP, COLUMNS = 860, 19, 18, 44, 92
COLOURS = {"ada": "#7fd1ae", "bob": "#8ab4f8", "said": "#c9d1d9", "good": "#7ee787", "bad": "#ff7b72"}


def run(folder: Path, line: str) -> list[str]:
    """What a command prints, with the home of the rig that types it."""
    rig, _, command = line.partition(": ")
    home = {"HOME": str(folder / rig), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "WL_KEYSTORE": "file"}
    (folder / rig).mkdir(exist_ok=True)
    done = subprocess.run(
        command, shell=True, cwd=folder, env=os.environ | home, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.stdout.splitlines()


def record(folder: Path) -> list[tuple[str, str]]:
    """The lines of the picture, each with the colour of who says it."""
    for line in BEFORE:
        run(folder, line)
    known, drawn = {"ITEM": "", "STAMP": ""}, []
    for line in SHOWN:
        for word, value in known.items():
            line = line.replace(word, value)
        rig, _, command = line.partition(": ")
        run(folder, f"{rig}: wl sync")
        printed = run(folder, line)
        for word, pattern in (("ITEM", r"\bw-[0-9a-f]{10}\b"), ("STAMP", r"\bs-[0-9a-f]{16}\b")):
            if found := re.search(pattern, "\n".join(printed)):
                known[word] = found[0]
        drawn.append((rig, f"{rig} $ {command}"))
        for text in printed:
            if KEPT.search(text):
                colour = "bad" if text.startswith("wl: ") else "good" if re.match("✓|VERIFIED", text) else "said"
                drawn.append((colour, text if len(text) <= COLUMNS else text[: COLUMNS - 1] + "…"))
        drawn.append(("said", ""))
    for rig in ("ada", "bob"):
        run(folder, f"{rig}: wl server stop")
    return drawn[:-1]


def draw(lines: list[tuple[str, str]]) -> str:
    """The lines as an SVG of a terminal."""
    height = TOP + LINE * len(lines) + 10
    rows = "\n".join(
        f'<text x="{LEFT}" y="{TOP + LINE * index}" fill="{COLOURS[colour]}" xml:space="preserve">'
        f"{html.escape(text)}</text>"
        for index, (colour, text) in enumerate(lines)
    )
    dots = "".join(f'<circle cx="{22 + 18 * at}" cy="18" r="5" fill="#3d444d"/>' for at in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="A terminal session: an item is posted, claimed, done, accepted and verified.">\n'
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#0d1117"/>{dots}\n'
        f'<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">\n{rows}\n</g>\n</svg>\n'
    )


def main() -> None:
    """Record and write the picture."""
    with tempfile.TemporaryDirectory() as made:
        lines = record(Path(made))
    if not any(text.startswith("VERIFIED") for _, text in lines):
        raise SystemExit("picture: the session did not end in a verified stamp:\n" + "\n".join(t for _, t in lines))
    TARGET.write_text(draw(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
