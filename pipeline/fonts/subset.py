"""Make the small font that labels are drawn with (needs fonttools).

    python pipeline/fonts/subset.py NanumGothicBold.ttf

Keeps Latin letters, every syllable of the label packs and the corpus, and as many of KS X 1001's other
syllables as fit under 500 KB. The Open Font License reserves the name Nanum, so the subset has another one.
"""

import json
import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

HERE = Path(__file__).parent
TARGET = HERE / "DaetgeulGothic-Bold.ttf"
GLYPHS = 1600  # about 290 bytes each
DROPPED = ["GSUB", "GPOS", "GDEF", "vhea", "vmtx", "DSIG", "BASE", "morx", "feat", "kern", "prop", "mort"]


def wanted() -> str:
    """The characters that are kept."""
    root = HERE.parents[1]
    pack = json.loads((root / "detection/label_packs/ko.json").read_text("utf-8"))
    sections = ("emotions", "objects", "things", "exact", "scenes", "moments")
    text = "".join([name for section in sections for name in pack[section].values()] + list(pack["aliases"]))
    for file in ("wholes.ko.jsonl", "frames.ko.jsonl"):
        text += (root / "language/comment/corpus" / file).read_text("utf-8")
    first = {*map(chr, range(32, 127)), *"·…~", *(c for c in text if "가" <= c <= "힣")}
    common = (bytes([high, low]).decode("euc-kr") for high in range(0xB0, 0xC9) for low in range(0xA1, 0xFF))
    plain = [c for c in common if c not in first and (ord(c) - 0xAC00) % 28 in (0, 1, 4, 8, 16, 17, 19, 21)]
    return "".join([*sorted(first), *plain[: GLYPHS - len(first)]])


def main() -> None:
    font = TTFont(sys.argv[1])
    options = subset.Options(hinting=False, layout_features=[], name_IDs=["*"], notdef_outline=True)
    options.drop_tables += DROPPED
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=wanted())
    subsetter.subset(font)
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6, 16, 18, 21):
            record.string = "DaetgeulGothic-Bold" if record.nameID == 6 else "Daetgeul Gothic"
    font.save(TARGET)
    print(TARGET, TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
