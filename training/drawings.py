"""Pictures drawn by code that are no chest X-ray: patterns, text, a hand, a section, a chest from the side."""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Random: TypeAlias = np.random.Generator

EDGE: Final = 256
"""Edge of the canvas that is drawn on, in pixels."""

_WORDS = (
    "chest",
    "PA",
    "AP",
    "lateral",
    "portable",
    "supine",
    "erect",
    "date",
    "series",
    "image",
    "window",
    "level",
    "R",
    "L",
    "report",
    "page",
    "patient",
    "room",
)


def blank(random: Random) -> NDArray[np.float64]:
    noise = random.normal(0, random.choice([0, 0, 1, 3]), (EDGE, EDGE))
    return noise + random.integers(0, 256)


def gradient(random: Random) -> NDArray[np.float64]:
    y, x = np.mgrid[0:EDGE, 0:EDGE] / EDGE - 0.5
    angle, centre = random.uniform(0, 2 * np.pi), random.uniform(-0.4, 0.4, 2)
    straight, round_ = x * np.cos(angle) + y * np.sin(angle), np.hypot(x - centre[0], y - centre[1])
    return np.asarray(128 + random.uniform(60, 250) * (straight if random.random() < 0.5 else round_ - 0.4))


def noise(random: Random) -> NDArray[np.float64]:
    """From the finest grain to clouds."""
    grain = int(random.choice([2, 4, 8, 16, 32, 64, 256]))
    coarse = random.uniform(0, 255, (grain, grain)).astype(np.uint8)
    cloud = np.asarray(Image.fromarray(coarse).resize((EDGE, EDGE), Image.Resampling.BICUBIC), dtype=float)
    return cloud + random.normal(0, random.uniform(0, 30), cloud.shape)


def pattern(random: Random) -> NDArray[np.float64]:
    y, x = np.mgrid[0:EDGE, 0:EDGE] / EDGE
    across, down = random.integers(1, 12, 2)
    waves = (
        np.sin(across * np.pi * x) * np.sin(down * np.pi * y) if random.random() < 0.5 else np.sin(across * np.pi * x)
    )
    return np.asarray(128 + 120 * (np.sign(waves) if random.random() < 0.5 else waves))


def shapes(random: Random) -> NDArray[np.uint8]:
    """Ellipses and boxes of any brightness, soft or hard: a drawing, a scan of something else."""
    image = Image.new("L", (EDGE, EDGE), int(random.integers(256)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(1, 14))):
        x, y, w, h = (int(value) for value in random.integers(0, EDGE, 4))
        shape = draw.ellipse if random.random() < 0.6 else draw.rectangle
        shape((x - w // 2, y - h // 2, x + w // 2, y + h // 2), fill=int(random.integers(256)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 12)))))


def text(random: Random) -> NDArray[np.uint8]:
    dark = random.random() < 0.5
    image = Image.new("L", (EDGE, EDGE), 10 if dark else 245)
    write(random, ImageDraw.Draw(image), (0, 0, EDGE, EDGE), fill=240 if dark else 15)
    return np.asarray(image)


def write(random: Random, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], fill: int) -> None:
    size = int(random.integers(8, 26))
    font = ImageFont.load_default(size)
    for y in range(box[1] + 4, box[3] - size, size + int(random.integers(2, 9))):
        line = " ".join(random.choice(_WORDS, int(random.integers(1, 9))))
        draw.text((box[0] + int(random.integers(4, 20)), y), line, fill=fill, font=font)


def _soft(image: Image.Image, radius: float, random: Random) -> NDArray[np.float64]:
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=float)
    return blurred + random.normal(0, random.uniform(0, 6), blurred.shape)


def _around(centre: NDArray[np.float64], across: float, down: float) -> tuple[float, float, float, float]:
    x, y = (float(place) for place in centre)
    return x - across, y - down, x + across, y + down


def hand(random: Random) -> NDArray[np.float64]:
    """Five fingers with bones on black, at some angle."""
    image = Image.new("L", (EDGE, EDGE), int(random.integers(0, 25)))
    draw = ImageDraw.Draw(image)
    flesh, bone = int(random.integers(70, 120)), int(random.integers(150, 240))
    root = np.array([EDGE * random.uniform(0.4, 0.6), EDGE * random.uniform(0.65, 0.85)])
    draw.ellipse(_around(root, 55, 65), fill=flesh)
    fingers = [(angle, random.uniform(110, 160)) for angle in np.linspace(-0.75, 0.5, 5) + random.normal(0, 0.05, 5)]
    for width, colour in ((34, flesh), (13, bone)):
        for angle, length in fingers:
            tip = root + length * np.array([np.sin(angle), -np.cos(angle)])
            draw.line((*root, *tip), fill=colour, width=width)
    drawn = Image.fromarray(np.asarray(image)).rotate(float(random.uniform(-180, 180)), fillcolor=10)
    return _soft(drawn, random.uniform(1, 4), random)


def section(random: Random) -> NDArray[np.float64]:
    """A section through the chest, as CT shows it: an oval of flesh, two black lungs, a white vertebra below."""
    image = Image.new("L", (EDGE, EDGE), int(random.integers(0, 15)))
    draw = ImageDraw.Draw(image)
    flesh, air = int(random.integers(100, 170)), int(random.integers(0, 50))
    w, h = random.uniform(95, 125), random.uniform(65, 95)
    middle = np.array([128, 128]) + random.normal(0, 6, 2)
    draw.ellipse(_around(middle, w, h), fill=flesh, outline=int(random.integers(150, 230)), width=5)
    for side in (-1, 1):
        lung = middle + np.array([side * w * random.uniform(0.42, 0.52), random.uniform(-8, 8)])
        draw.ellipse(_around(lung, w * random.uniform(0.28, 0.4), h * random.uniform(0.5, 0.75)), fill=air)
    draw.ellipse(_around(middle + np.array([w * 0.12, -h * 0.15]), 30, 24), fill=flesh + 20)  # the heart
    draw.ellipse(_around(middle + np.array([0, h * 0.6]), 15, 13), fill=235)  # the spine
    return _soft(image, random.uniform(0.5, 2.5), random)


def lateral(random: Random) -> NDArray[np.float64]:
    """A drawing of a chest from the side: one lung field between breastbone and spine, the heart low in front."""
    image = Image.new("L", (EDGE, EDGE), int(random.integers(0, 60)))
    draw = ImageDraw.Draw(image)
    flesh, air = int(random.integers(130, 190)), int(random.integers(40, 90))
    w = random.uniform(80, 110)
    draw.ellipse((128 - w, 5, 128 + w, 330), fill=flesh)
    lung = random.uniform(50, 70)
    draw.ellipse((128 - lung, 30, 128 + lung * 0.9, 215), fill=air)
    draw.ellipse((128 - lung - 5, 130, 128 + 5, 225), fill=flesh + 20)  # the heart
    draw.line(
        (128 + lung * 0.8, 10, 128 + lung * random.uniform(0.7, 1.1), 250), fill=flesh + 45, width=26
    )  # the spine
    draw.ellipse((128 - w, 195, 128 + w, 400), fill=flesh + 25)  # below the diaphragm
    for rib in range(int(random.integers(5, 9))):
        draw.arc((30, 20 + 22 * rib, 226, 80 + 26 * rib), 10, 170, fill=air + 55, width=4)
    pixels = _soft(image, random.uniform(2, 5), random)
    return pixels[:, ::-1] if random.random() < 0.5 else pixels
