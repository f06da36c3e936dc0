"""The training pictures: Noto Color Emoji on flat coloured backgrounds, captioned by their Unicode names.

Everything is rendered from Debian's fonts-noto-color-emoji; nothing is downloaded. `python data.py OUT.png`
writes a contact sheet of all kinds.
"""

import sys
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
FONT_SIZE = 109  # the one bitmap size the font holds
CANVAS = 136  # its glyphs are 136 wide and 128 high
SIZE = 128  # pictures are SIZE x SIZE

KINDS = (
    "🐵🐶🦊🐱🦁🐯🐴🦄🐮🐷🐭🐰🐼🐨🐸🐔🐧🦉🦆🐢🐍🐳🐬🐠🐙🐌🦋🐝🐞🦀🐘🦕"  # animals
    "🌵🌻🌹🍄🍀🌲🌴🍁🌸"  # plants
    "🍎🍌🍇🍉🍓🍍🍋🍒🥑🥕🌽🍆🥦🧀🍔🍕🍟🌮🍩🍪🎂🍦☕🍺🍷"  # food and drink
    "🚗🚒🚜🚲🚀⛵🚁"  # vehicles
    "⚽🏀🎸☔🎁🎈👑💎⏰💡📺🏠🏆🎃"  # things
    "🌈🌞🌙⛄🔥"  # sky and weather
    "😀😎😡👽👻🤖💀🤡"  # faces
)

NAMES = [unicodedata.name(kind).lower() for kind in KINDS]

# What people call them, beside the Unicode name; "... face" also goes by the part before " face".
OTHER_NAMES = {
    "red apple": "apple", "ear of maize": "corn", "aubergine": "eggplant", "slice of pizza": "pizza",
    "soft ice cream": "ice cream", "hot beverage": "coffee", "beer mug": "beer", "automobile": "car",
    "sauropod": "dinosaur", "spouting whale": "whale", "honeybee": "bee",
    "lady beetle": "ladybug", "four leaf clover": "clover", "soccer ball": "football",
    "basketball and hoop": "basketball", "umbrella with rain drops": "umbrella", "wrapped present": "gift",
    "gem stone": "diamond", "electric light bulb": "light bulb", "house building": "house",
    "jack-o-lantern": "pumpkin", "sun with face": "sun", "crescent moon": "moon",
    "snowman without snow": "snowman", "extraterrestrial alien": "alien", 
    "evergreen tree": "tree", "smiling face with sunglasses": "cool face", "pouting face": "angry face",
}

COLOURS = {
    "red": (214, 40, 48),
    "orange": (248, 138, 20),
    "yellow": (250, 222, 70),
    "green": (46, 158, 74),
    "blue": (38, 88, 208),
    "purple": (128, 56, 176),
    "pink": (250, 164, 204),
    "brown": (118, 74, 40),
    "turquoise": (60, 200, 206),
    "white": (246, 246, 246),
    "gray": (132, 132, 132),
    "black": (18, 18, 18),
}

# For each of the two sizes: the glyph canvas in pixels, and how far left or right of the middle it may stand. 16 pixels
# are one token of the transformer: a small emoji has three places, of which the noise chooses one.
SIZES = {"large": (114, 0), "small": (62, 16)}
PLACES = (-1, 0, 1)


def glyph(kind):
    """The emoji as a square RGBA picture of CANVAS pixels a side."""
    font = ImageFont.truetype(FONT, FONT_SIZE)
    picture = Image.new("RGBA", (CANVAS, CANVAS))
    left, top, right, bottom = font.getbbox(kind)
    at = ((CANVAS - (right - left)) // 2 - left, (CANVAS - (bottom - top)) // 2 - top)
    ImageDraw.Draw(picture).text(at, kind, font=font, embedded_color=True)
    return picture


def paint(emoji, size, colour, place=0):
    """One picture, uint8 [SIZE, SIZE, 3]."""
    side, step = SIZES[size]
    picture = Image.new("RGBA", (SIZE, SIZE), COLOURS[colour] + (255,))
    emoji = emoji.resize((side, side), Image.Resampling.LANCZOS)
    picture.alpha_composite(emoji, ((SIZE - side) // 2 + place * step, (SIZE - side) // 2))
    return np.asarray(picture.convert("RGB"))


def with_article(words):
    if words[0] in "aeiou" and not words.startswith("uni"):
        return "an " + words
    return "a " + words


def caption(name, size, colour):
    """The caption as the evaluation writes it."""
    thing = ("small " if size == "small" else "") + name
    return f"{with_article(thing)} on {with_article(colour)} background"


def loose_caption(name, size, colour, rng):
    """The caption as training sees it: mostly as above, sometimes as people would also put it."""
    if rng.random() < 0.6:
        return caption(name, size, colour)
    if rng.random() < 0.5:
        name = OTHER_NAMES.get(name, name.removesuffix(" face"))
    small = rng.choice(["small", "small", "little", "tiny"])
    thing = (f"{small} " if size == "small" else "") + name
    colour = "grey" if colour == "gray" and rng.random() < 0.5 else colour
    form = rng.integers(6)
    if form == 0:
        return f"{thing} on {colour} background"
    if form == 1:
        return f"{with_article(thing)} on {colour}"
    if form == 2:
        return f"{thing}, {colour} background"
    if form == 3:
        return f"{with_article(thing)}, {with_article(colour)} background"
    if form == 4:
        return f"an emoji of {with_article(thing)} on {with_article(colour)} background"
    return f"{with_article(thing)} on {with_article(colour)} background"


def prompts():
    """The fixed list of 100 evaluation prompts as (name, size, colour): kinds, sizes and colours in turn."""
    rng = np.random.default_rng(2026)
    names = rng.permutation(NAMES)[:100]
    colours = list(COLOURS)
    order = rng.permutation([colours[i % len(colours)] for i in range(100)])
    return [(str(name), "small" if i % 3 == 2 else "large", str(order[i])) for i, name in enumerate(names)]


if __name__ == "__main__":
    columns = 12
    rows = -(-len(KINDS) // columns)
    sheet = Image.new("RGB", (columns * SIZE, rows * SIZE))
    for i, kind in enumerate(KINDS):
        picture = paint(glyph(kind), "small" if i % 4 == 3 else "large", list(COLOURS)[i * 5 % 12])
        sheet.paste(Image.fromarray(picture), (i % columns * SIZE, i // columns * SIZE))
    sheet.save(sys.argv[1])
    print(len(KINDS), "kinds:", ", ".join(NAMES))
