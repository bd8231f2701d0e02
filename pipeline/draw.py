"""A photo with its elements drawn on it: boxes and labels in any language of the label packs."""

from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from language.records import ElementList

# A renamed subset of Nanum Gothic Bold (SIL Open Font License 1.1, text beside it).
FONT = Path(__file__).with_name("fonts") / "DaetgeulGothic-Bold.ttf"
FACE_COLOUR = (255, 111, 97)
THING_COLOURS = [
    (38, 132, 255),
    (0, 150, 136),
    (156, 39, 176),
    (239, 108, 0),
    (84, 110, 122),
    (46, 125, 50),
    (194, 24, 91),
]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT), size)


def annotate(photo: Image.Image, elements: ElementList, size: tuple[int, int]) -> Image.Image:
    """Draw every element's boxes on a copy of an upright RGB photo.

    Args:
        size: (width, height) of the photo that the boxes are in; `photo` may have been decoded smaller.
    """
    canvas = photo.copy()
    draw = ImageDraw.Draw(canvas)
    x, y = photo.width / size[0], photo.height / size[1]
    unit = max(photo.size) / 640
    line, font = max(2, round(2.5 * unit)), _font(max(13, round(17 * unit)))
    things = 0
    taken: list[tuple[float, float, float, float]] = []
    for element in elements:
        colour = FACE_COLOUR if element.kind == "emotion" else THING_COLOURS[things % len(THING_COLOURS)]
        things += element.kind != "emotion"
        if not element.boxes or element.kind == "moment":  # of the whole picture: a label in the corner
            _label(
                draw, element.name, (0, canvas.height, 0, canvas.height), font, colour, canvas.size, taken, upwards=True
            )
            continue
        for box in element.boxes:
            xyxy = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
            draw.rectangle(xyxy, outline=colour, width=line)
            _label(
                draw,
                f"{element.name} {element.score:.0%}" if box is element.boxes[0] else element.name,
                xyxy,
                font,
                colour,
                canvas.size,
                taken,
            )
    return canvas


def _label(draw, text: str, xyxy, font, colour, room: tuple[int, int], taken: list, upwards: bool = False) -> None:
    """A filled label above its box, or inside where there is no room, moved down (or up) off labels drawn before."""
    left, top, right, bottom = font.getbbox(text)
    pad = max(2, font.size // 5)
    width, height = right - left + 2 * pad, font.size + 2 * pad
    x = min(max(0, xyxy[0]), max(0, room[0] - width))
    y = xyxy[1] - height if xyxy[1] >= height else max(0, xyxy[1])
    for _ in range(20):
        if not any(x < r and l < x + width and y < b and t < y + height for l, t, r, b in taken) or (
            y < height if upwards else y + 2 * height > room[1]
        ):
            break
        y += -height if upwards else height
    taken.append((x, y, x + width, y + height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + pad - left, y + height / 2), text, font=font, fill="white", anchor="lm")
