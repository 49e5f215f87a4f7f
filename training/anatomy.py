"""A synthetic frontal chest X-ray, drawn from a seed: nobody's body, for demonstrations and tests only."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Plane = NDArray[np.float32]

_RIBS: Final = 9
_SHARE_WITH_OPACITIES: Final = 0.4
_TEXT: Final = "SYNTHETIC"


@dataclass(frozen=True)
class Drawing:
    """`grey` (size, size) uint8, `lungs` (size, size) bool, and whether bilateral opacities were drawn."""

    grey: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    opacities: bool


def draw(seed: int, *, size: int = 512, opacities: bool | None = None) -> Drawing:
    """Return the radiograph of this seed, white for dense; by default two in five have opacities."""
    random = np.random.default_rng(seed)
    drawn = random.random() < _SHARE_WITH_OPACITIES
    opaque = drawn if opacities is None else opacities
    body = _Body(size, random)
    lungs = body.lungs()
    # Densities add up along the beam, so the picture is a sum: tissue, minus air, plus bone, heart and disease.
    density = 0.52 * body.torso() - 0.36 * lungs * (0.92 + 0.08 * body.texture(24))
    density += lungs * body.vessels() + body.bones(lungs) + body.middle()
    if opaque:
        density += lungs * body.opacities()
    density += (body.texture(3) + random.normal(0, 1, (size, size)).astype(np.float32)) * 0.006
    levels = np.clip((density - density.min()) / (np.percentile(density, 99.7) - density.min()), 0, 1)
    return Drawing(_labelled((levels**0.9 * 245).astype(np.uint8)), lungs > 0.5, bool(opaque))  # noqa: PLR2004


class _Body:
    """One body's proportions; every method draws one part in planes of 0 to 1, x and y from 0 to 1."""

    def __init__(self, size: int, random: np.random.Generator) -> None:
        self._size, self._random = size, random
        self._y, self._x = np.mgrid[0:size, 0:size].astype(np.float32) / size
        self._centre = 0.5 + random.uniform(-0.02, 0.02)
        self._wide = random.uniform(0.9, 1.08)
        self._top, self._bottom = 0.13 + random.uniform(-0.02, 0.02), 0.79 + random.uniform(-0.05, 0.03)

    def torso(self) -> Plane:
        """Shoulders, neck and flanks, darker towards the skin."""
        width = (
            np.interp(self._y, [0, 0.05, 0.1, 0.14, 0.19, 0.26, 1], [0.1, 0.13, 0.24, 0.37, 0.45, 0.47, 0.45])
            * self._wide
        )
        inside = 1 - ((self._x - self._centre) / width) ** 2
        return self._soft(np.clip(inside, 0, 1) ** 0.35, 0.008)

    def lungs(self) -> Plane:
        """Two fields, the patient's right one shorter by the liver, the left one indented by the heart."""
        canvas, pen = self._canvas()
        for side in (-1, 1):
            base = self._bottom - (0.03 if side < 0 else 0)
            outer = [(0.11, 0.01), (0.17, 0.05), (0.23, 0.17), (0.27, 0.36), (0.29, 0.6), (0.3, 0.86), (0.295, 1.03)]
            dome = [(0.25, 0.96), (0.2, 0.915), (0.15, 0.895), (0.1, 0.9), (0.06, 0.93)]
            heart = [(0.06, 0.8), (0.055, 0.6)] if side < 0 else [(0.15, 0.9), (0.16, 0.8), (0.135, 0.68), (0.08, 0.55)]
            inner = [*heart, (0.05, 0.45), (0.045, 0.25), (0.05, 0.1), (0.065, 0.02)]
            points = [(side * x * self._wide, self._top + y * (base - self._top)) for x, y in outer + dome + inner]
            pen.polygon([((self._centre + x) * self._size, y * self._size) for x, y in points], fill=255)
        return self._soft(self._plane(canvas), 0.011)

    def middle(self) -> Plane:
        """Spine, mediastinum, heart, the dense abdomen under the domes, and the trachea's air."""
        x, y = self._x - self._centre, self._y
        heart = self._blob(0.05, self._bottom - 0.14, 0.14 * self._wide, 0.17)
        trunk = np.exp(-((x / 0.055) ** 4)) * self._step(self._top - 0.1, 0.05)
        discs = 0.02 * np.cos(y * 2 * np.pi * 19) * np.exp(-((x / 0.035) ** 4))
        trachea = np.exp(-((x / 0.017) ** 2)) * (1 - self._step(self._top + 0.2, 0.05))
        abdomen = self._step(self._bottom + 0.02, 0.05) * np.exp(-((x / 0.36) ** 6))
        return np.asarray(0.17 * heart + 0.09 * trunk + discs + 0.12 * abdomen - 0.1 * trachea, np.float32)

    def bones(self, lungs: Plane) -> Plane:
        """Ribs, bright at their edges, and two clavicles."""
        thick = self._size * 0.018
        ribs, pen = self._canvas()
        for rib in range(_RIBS):
            start = self._top - 0.01 + rib * (self._bottom - self._top) / _RIBS
            for side in (-1, 1):
                reach = (0.17 + 0.13 * min(1, (rib + 1) / 5)) * self._wide
                self._line(pen, self._arc(side, start, reach, drop=0.13), thick)
        front, pen = self._canvas()
        for side in (-1, 1):
            across = np.linspace(0.035, 0.33, 30) * side
            bend = self._top + 0.045 - 0.06 * np.abs(across / 0.33) + 0.012 * np.sin(np.abs(across) * 22)
            self._line(pen, [(self._centre + a, b) for a, b in zip(across, bend, strict=True)], thick * 1.25)
        shape = self._plane(ribs)
        rim = np.clip(self._soft(shape, 0.002) - self._soft(shape, 0.008), 0, 1)
        where = 0.1 + 0.9 * self._soft(lungs, 0.02)
        behind = (0.055 * self._soft(shape, 0.004) + 0.12 * rim) * where
        return np.asarray(behind + 0.12 * self._soft(self._plane(front), 0.004), np.float32)

    def vessels(self) -> Plane:
        """Branches from both hila, thinner and fainter outwards."""
        canvas, pen = self._canvas()
        for side in (-1, 1):
            for _ in range(26):
                angle, length = self._random.uniform(-1.35, 1.35), self._random.uniform(0.08, 0.2)
                bend = self._random.uniform(-0.5, 0.5)
                x, y = self._centre + side * 0.06, (self._top + self._bottom) / 2 + self._random.uniform(-0.04, 0.04)
                for step in range(8):
                    direction = angle + bend * step / 8
                    ahead = (x + side * np.cos(direction) * length / 8, y + np.sin(direction) * length / 8)
                    pen.line(
                        self._scaled([(x, y), ahead]),
                        fill=210 - 22 * step,
                        width=max(1, self._size * (9 - step) // 1200),
                    )
                    x, y = ahead
        hila = sum(self._blob(side * 0.075, (self._top + self._bottom) / 2, 0.035, 0.07) for side in (-1, 1))
        return np.asarray(0.1 * self._soft(self._plane(canvas), 0.003) + 0.1 * hila, np.float32)

    def opacities(self) -> Plane:
        """Patchy ground glass in both lungs, more at the edges and below."""
        patches = np.zeros_like(self._x)
        for side in (-1, 1):
            for _ in range(self._random.integers(4, 8)):
                across = side * self._random.uniform(0.09, 0.27) * self._wide
                down = self._random.triangular(self._top + 0.15, self._bottom - 0.12, self._bottom)
                patches += self._blob(across, down, self._random.uniform(0.05, 0.11), self._random.uniform(0.05, 0.13))
        cloudy = 0.75 + 0.2 * self.texture(40) + 0.1 * self.texture(12)
        return np.asarray(np.tanh(np.clip(patches * cloudy, 0, None)) * self._random.uniform(0.18, 0.28), np.float32)

    def texture(self, grain: int) -> Plane:
        """Smooth noise about 0, spread 1; `grain` is the size of its spots in pixels of a 512-pixel picture."""
        cells = max(4, 512 // grain)
        noise = Image.fromarray(self._random.normal(0, 1, (cells, cells)).astype(np.float32))
        return np.asarray(noise.resize((self._size, self._size), Image.Resampling.BICUBIC), np.float32)

    def _arc(self, side: int, start: float, reach: float, *, drop: float) -> list[tuple[float, float]]:
        turn = np.linspace(0.12, 2.3, 40)
        across = self._centre + side * reach * np.sin(turn) ** 0.8
        down = start + drop * (1 - np.cos(turn)) / 1.2 - 0.03
        return list(zip(across.tolist(), down.tolist(), strict=True))

    def _blob(self, x: float, y: float, wide: float, high: float) -> Plane:
        squared = ((self._x - self._centre - x) / wide) ** 2 + ((self._y - y) / high) ** 2
        return np.asarray(np.exp(-(squared**1.5)), np.float32)

    def _step(self, y: float, soft: float) -> Plane:
        return np.asarray(1 / (1 + np.exp(-(self._y - y) / soft * 4)), np.float32)

    def _canvas(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        canvas = Image.new("L", (self._size, self._size))
        return canvas, ImageDraw.Draw(canvas)

    def _line(self, pen: ImageDraw.ImageDraw, points: Any, width: float) -> None:
        pen.line(self._scaled(points), fill=255, width=max(1, round(width)), joint="curve")

    def _scaled(self, points: Any) -> list[tuple[float, float]]:
        return [(x * self._size, y * self._size) for x, y in points]

    def _soft(self, plane: Plane, radius: float) -> Plane:
        blurred = Image.fromarray((np.clip(plane, 0, 1) * 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(radius * self._size)
        )
        return self._plane(blurred)

    def _plane(self, image: Image.Image) -> Plane:
        return np.asarray(image, np.float32) / np.float32(255)


def _labelled(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Burn SYNTHETIC into the picture, so that nobody takes it for a patient."""
    image = Image.fromarray(grey)
    font = ImageFont.load_default(grey.shape[0] / 22)
    ImageDraw.Draw(image).text((grey.shape[1] * 0.03, grey.shape[0] * 0.02), _TEXT, fill=250, font=font)
    return np.asarray(image)
