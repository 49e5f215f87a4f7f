"""Pictures that are no upright frontal chest X-ray, of every kind that we could think of; for the gate to learn."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training import drawings
from training.drawings import EDGE, Random
from worker.radiograph import SIZE, Grey

Pictures: TypeAlias = Sequence[NDArray[np.uint8]]
Kind: TypeAlias = Callable[[Random, Pictures, Pictures], NDArray[np.generic]]


def strangers(
    radiographs: Pictures, pictures: Pictures, *, count: int, seed: int
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return (count, SIZE, SIZE) grey levels and the kind of each, every kind in turn.

    `radiographs` are frontal chest X-rays, of which other things are made; `pictures` show anything else, in any size.
    """
    random = np.random.default_rng(seed)
    names = [name for name in KINDS if pictures or name not in _OF_PICTURES]
    kinds = [names[place % len(names)] for place in range(count)]
    return np.stack([_small(KINDS[kind](random, radiographs, pictures)) for kind in kinds]), kinds


def _small(pixels: NDArray[np.generic]) -> Grey:
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def _one(random: Random, of: Pictures) -> NDArray[np.uint8]:
    return of[int(random.integers(len(of)))]


def _screenshot(random: Random, radiographs: Pictures, pictures: Pictures) -> NDArray[np.uint8]:
    """A viewer's window: panes of small images between bars and text."""
    image = Image.new("L", (EDGE, EDGE), int(random.choice([20, 40, 230])))
    draw = ImageDraw.Draw(image)
    columns, rows = (int(value) for value in random.integers(2, 4, 2))
    for place in range(columns * rows):
        x, y = place % columns * EDGE // columns, place // columns * EDGE // rows
        box = (x + 3, y + 3, x + EDGE // columns - 3, y + EDGE // rows - 3)
        if random.random() < 0.6:
            inside = Image.fromarray(_one(random, pictures if pictures and random.random() < 0.2 else radiographs))
            image.paste(inside.resize((box[2] - box[0], box[3] - box[1])), box[:2])
        else:
            drawings.write(random, draw, box, fill=int(random.choice([128, 200, 90])))
    return np.asarray(image)


def _picture(random: Random, _r: Pictures, pictures: Pictures) -> NDArray[np.uint8]:
    """A piece of a photograph, some way round."""
    whole = _one(random, pictures)
    height, width = whole.shape
    share = random.uniform(0.35, 1)
    h, w = max(int(height * share), 8), max(int(width * share * random.uniform(0.8, 1)), 8)
    y, x = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
    piece = np.rot90(whole[y : y + h, x : x + w], int(random.choice([0, 0, 0, 1, 2, 3])))
    piece = piece[:, ::-1] if random.random() < 0.5 else piece
    return lit(random, 255 - piece if random.random() < 0.15 else piece)


def lit(random: Random, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    levels = (np.asarray(pixels, dtype=float) / 255) ** random.uniform(0.6, 1.6) * 255
    return np.clip(levels * random.uniform(0.7, 1.1), 0, 255).astype(np.uint8)


def _inverted(random: Random, radiographs: Pictures, _p: Pictures) -> NDArray[np.uint8]:
    return lit(random, 255 - _one(random, radiographs))


def _quarter_turn(random: Random, radiographs: Pictures, _p: Pictures) -> NDArray[np.uint8]:
    return lit(random, np.rot90(_one(random, radiographs), int(random.choice([1, 3]))))


def _half_turn(random: Random, radiographs: Pictures, _p: Pictures) -> NDArray[np.uint8]:
    turned = np.rot90(_one(random, radiographs), 2)
    return lit(random, turned[:, ::-1] if random.random() < 0.3 else turned)


def _piece(random: Random, radiographs: Pictures, _p: Pictures) -> NDArray[np.uint8]:
    """So small a part of a radiograph that no one could judge both lungs by it."""
    whole = _one(random, radiographs)
    h, w = (int(len(whole) * share) for share in random.uniform(0.15, 0.45, 2))
    y, x = int(random.integers(len(whole) - h)), int(random.integers(len(whole) - w))
    return lit(random, whole[y : y + h, x : x + w])


def _half(random: Random, radiographs: Pictures, _p: Pictures) -> NDArray[np.uint8]:
    """One side, or only what lies above or below the middle."""
    whole = _one(random, radiographs)
    middle = len(whole) // 2
    sides = [whole[:, :middle], whole[:, middle:], whole[:middle], whole[middle:]]
    return lit(random, sides[int(random.integers(4))])


def _shuffled(random: Random, radiographs: Pictures, _p: Pictures) -> NDArray[np.uint8]:
    whole, parts = _one(random, radiographs), int(random.integers(2, 6))
    tiles = [tile for row in np.array_split(whole, parts) for tile in np.array_split(row, parts, axis=1)]
    edge = len(whole) // parts
    tiles = [tile[:edge, :edge] for tile in (tiles[place] for place in random.permutation(len(tiles)))]
    return np.vstack([np.hstack(tiles[row * parts : (row + 1) * parts]) for row in range(parts)])


def _squeezed(random: Random, radiographs: Pictures, _p: Pictures) -> NDArray[np.uint8]:
    """A radiograph as a small or narrow part of an otherwise empty page."""
    w, h = (int(EDGE * share) for share in random.permutation([random.uniform(0.15, 0.35), random.uniform(0.2, 0.9)]))
    image = Image.new("L", (EDGE, EDGE), int(random.choice([0, 0, 255, 128])))
    place = (int(random.integers(EDGE - w)), int(random.integers(EDGE - h)))
    image.paste(Image.fromarray(_one(random, radiographs)).resize((w, h)), place)
    return np.asarray(image)


def _drawn(draw: Callable[[Random], NDArray[np.generic]]) -> Kind:
    return lambda random, _radiographs, _pictures: draw(random)


KINDS: Final[dict[str, Kind]] = {
    "blank": _drawn(drawings.blank),
    "gradient": _drawn(drawings.gradient),
    "noise": _drawn(drawings.noise),
    "pattern": _drawn(drawings.pattern),
    "shapes": _drawn(drawings.shapes),
    "text": _drawn(drawings.text),
    "screenshot": _screenshot,
    "picture": _picture,
    "inverted": _inverted,
    "quarter turn": _quarter_turn,
    "half turn": _half_turn,
    "piece": _piece,
    "half": _half,
    "shuffled": _shuffled,
    "hand": _drawn(drawings.hand),
    "CT slice": _drawn(drawings.section),
    "lateral": _drawn(drawings.lateral),
    "squeezed": _squeezed,
}
_OF_PICTURES = {"picture"}
