"""Draw scenes of simple shapes, name them, and decide which words describe them.

A scene has one to three groups of equal objects on a background. Objects of different groups have different shapes.
Everything is drawn from a seed; the ground truth is the scene itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 128
"""Width and height of a rendered scene in pixels."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 150, 60),
    "blue": (38, 84, 200),
    "yellow": (244, 208, 38),
    "orange": (250, 135, 20),
    "purple": (134, 62, 176),
    "white": (245, 245, 245),
    "black": (24, 24, 24),
}
BACKGROUNDS = {
    "white": (238, 238, 238),
    "black": (38, 38, 38),
    "grey": (140, 140, 140),
    "blue": (150, 180, 235),
    "green": (165, 215, 165),
    "pink": (245, 190, 205),
    "brown": (120, 88, 62),
}
TEXTURES = ("plain", "striped", "dotted", "checked")
SIZES = ("small", "large")
COUNTS = ("one", "two", "three", "four")
MAX_GROUPS = 3
ATTRIBUTES = ("count", "size", "texture", "colour", "shape")

_COMMON_FIRST = ("triangle", "circle", "square", "star", "heart", "ring", "moon", "cross")
_PLURALS = {"cross": "crosses"}
_COUNT_ODDS = (0.34, 0.30, 0.20, 0.16)
_GROUP_ODDS = (0.55, 0.35, 0.10)
_TEXTURE_ODDS = (0.55, 0.15, 0.15, 0.15)
_RADIUS = {"small": (10.5, 13.5), "large": (18.0, 23.0)}
_SUPERSAMPLING = 3


@dataclass(frozen=True)
class Group:
    """Equal objects: count 1..4, size, texture, colour and shape by name; None, or count 0, in a query means any."""

    count: int = 0
    size: str | None = None
    texture: str | None = None
    colour: str | None = None
    shape: str | None = None

    def phrase(self, *, article: bool = False) -> str:
        """Return words such as "two striped red triangles"; with `article`, "a red triangle" for one."""
        number = COUNTS[self.count - 1] if self.count else ""
        noun = self.shape or "shape"
        adjectives = [word for word in (self.size, self.texture, self.colour) if word]
        if self.count == 1:
            first = (adjectives or [noun])[0]
            number = ("an" if first[0] in "aeiou" else "a") if article else number
        else:
            noun = _PLURALS.get(noun, f"{noun}s")
        return " ".join(word for word in (number, *adjectives, noun) if word)

    def covers(self, other: Group) -> bool:
        """Return whether the objects of `other` have every attribute named here, except the count."""
        return all(
            wanted is None or wanted == got
            for wanted, got in (
                (self.size, other.size),
                (self.texture, other.texture),
                (self.colour, other.colour),
                (self.shape, other.shape),
            )
        )


@dataclass(frozen=True)
class Scene:
    """Groups of objects on a background; `seed` places the objects. A scene with some fields empty is a query."""

    groups: tuple[Group, ...]
    background: str | None = None
    seed: int = 0

    @property
    def caption(self) -> str:
        """Words such as "two large red triangles and one small striped green circle on a blue background"."""
        named = (replace(group, texture=None) if group.texture == "plain" else group for group in self.groups)
        return replace(self, groups=tuple(named)).phrase(article=True)

    def phrase(self, *, article: bool = False) -> str:
        """Return the caption, or the text of a query; with `article`, "a" in place of "one"."""
        words = " and ".join(group.phrase(article=article) for group in self.groups)
        ground = f"{_article(self.background)} {self.background} background" if self.background else ""
        return " on ".join(part for part in (words, ground) if part)

    def describes(self, other: Scene) -> bool:
        """Return whether `other` matches this query.

        If the query names a background, it must be the same. For each group of the query there must be objects with its
        attributes; if the group has a count, exactly so many.
        """
        if self.background is not None and self.background != other.background:
            return False
        for wanted in self.groups:
            total = sum(group.count for group in other.groups if wanted.covers(group))
            if total == 0 or (wanted.count and wanted.count != total):
                return False
        return True

    def to_json(self) -> dict[str, Any]:
        """Return the scene as a JSON-able dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scene:
        """Return the scene that `to_json` described."""
        return cls(tuple(Group(**group) for group in data["groups"]), data["background"], data["seed"])


def draw_scenes(n: int, seed: int, *, even: bool = False) -> list[Scene]:
    """Draw n scenes; the same arguments give the same scenes.

    Some shapes and colours are more frequent than others, as in real collections; with `even`, all are equally
    frequent.
    """
    rng = np.random.default_rng([seed, n])
    return [_draw_scene(rng, even) for _ in range(n)]


def render(scene: Scene) -> Image.Image:
    """Return the picture of a full scene, RGB, SIZE x SIZE; the same scene gives the same pixels."""
    rng = np.random.default_rng(scene.seed)
    base = np.array(BACKGROUNDS[str(scene.background)], np.float32) + rng.normal(0, 5, 3)
    slope = rng.normal(0, 12, 2)
    ramp = np.linspace(-0.5, 0.5, SIZE, dtype=np.float32)
    light = ramp[:, None] * slope[0] + ramp[None, :] * slope[1]
    noise = rng.integers(-3, 4, (SIZE, SIZE)).astype(np.float32)
    canvas = np.clip(base + (light + noise)[:, :, None], 0, 255).astype(np.uint8)
    image = Image.fromarray(canvas)
    for group, radius, x, y in layout(scene):
        _draw_object(image, group, radius, x, y, rng)
    return image


def layout(scene: Scene) -> list[tuple[Group, float, float, float]]:
    """Return the objects of a full scene, each as its group, radius and centre x, y in pixels."""
    rng = np.random.default_rng([scene.seed, 1])
    objects = [(group, rng.uniform(*_RADIUS[str(group.size)])) for group in scene.groups for _ in range(group.count)]
    places = _places([radius for _, radius in objects], rng)
    return [(group, radius, x, y) for (group, radius), (x, y) in zip(objects, places, strict=True)]


def attributes(scene: Scene) -> dict[str, Any]:
    """Return the metadata of a full scene: its caption, background, number of objects and its first group's words."""
    first = scene.groups[0]
    return {
        "caption": scene.caption,
        "background": scene.background,
        "objects": sum(group.count for group in scene.groups),
        **{name: getattr(first, name) for name in ATTRIBUTES},
        "kinds": len(scene.groups),
    }


def _article(word: str | None) -> str:
    return "an" if word and word[0] in "aeiou" else "a"


def _draw_scene(rng: np.random.Generator, even: bool) -> Scene:
    background = str(rng.choice(list(BACKGROUNDS)))
    colours = [colour for colour in COLOURS if colour != background]
    kinds = 1 + int(rng.choice(MAX_GROUPS, p=_GROUP_ODDS))
    groups = [
        Group(
            count=1 + int(rng.choice(len(COUNTS), p=_COUNT_ODDS)),
            size=str(rng.choice(SIZES)),
            texture=str(rng.choice(TEXTURES, p=_TEXTURE_ODDS)),
            colour=str(rng.choice(colours, p=None if even else _usual(colours, COLOURS))),
            shape=str(shape),
        )
        for shape in rng.choice(list(SHAPES), kinds, replace=False, p=None if even else _usual(SHAPES, _COMMON_FIRST))
    ]
    return Scene(tuple(groups) if _fits(groups) else _shrunk(groups), background, int(rng.integers(2**32)))


def _usual(names: Sequence[str], order: Iterable[str]) -> NDArray[np.float64]:
    """Return odds of names that fall with their place in `order`; the last is a quarter as likely as the first."""
    places = list(order)
    odds = np.array([0.25 ** (places.index(name) / (len(places) - 1)) for name in names])
    total: float = odds.sum()
    return odds / total


def _fits(groups: list[Group]) -> bool:
    """Return whether the objects fit on the picture: up to six small ones, up to four if some are large."""
    return sum(group.count for group in groups) <= (4 if any(group.size == "large" for group in groups) else 6)


def _shrunk(groups: list[Group]) -> tuple[Group, ...]:
    return tuple(replace(group, size="small") for group in groups)


def _places(radii: list[float], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return centres (x, y) at which objects do not overlap, or overlap least if many tries find no such place."""
    placed: list[tuple[float, float]] = [(0.0, 0.0)] * len(radii)
    done: list[int] = []
    for row in sorted(range(len(radii)), key=lambda i: -radii[i]):
        margin = radii[row] + 1
        tries = rng.uniform(margin, SIZE - margin, (60, 2))
        gaps = np.full(len(tries), np.inf)
        for other in done:
            distance = np.hypot(tries[:, 0] - placed[other][0], tries[:, 1] - placed[other][1])
            gaps = np.minimum(gaps, distance - radii[row] - radii[other])
        free = np.flatnonzero(gaps > 2)
        chosen = tries[free[0] if len(free) else int(gaps.argmax())]
        placed[row] = (float(chosen[0]), float(chosen[1]))
        done.append(row)
    return placed


def _draw_object(image: Image.Image, group: Group, radius: float, x: float, y: float, rng: np.random.Generator) -> None:
    side = 2 * math.ceil(radius) + 2
    large = side * _SUPERSAMPLING
    mask = Image.new("L", (large, large))
    _draw_shape(ImageDraw.Draw(mask), str(group.shape), large / 2, radius * _SUPERSAMPLING, rng)
    mask = mask.resize((side, side), Image.Resampling.BOX)
    colour = np.clip(np.array(COLOURS[str(group.colour)]) + rng.normal(0, 7, 3), 0, 255)
    paint = _paint(str(group.texture), colour, side, rng)
    image.paste(paint, (round(x) - side // 2, round(y) - side // 2), mask)


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, middle: float, radius: float, rng: np.random.Generator) -> None:
    turn = rng.uniform(0, 2 * math.pi)
    tilt = rng.uniform(-0.25, 0.25)
    if shape == "circle":
        _disc(draw, middle, middle, radius * 0.92, 255)
    elif shape == "ring":
        _disc(draw, middle, middle, radius * 0.96, 255)
        _disc(draw, middle, middle, radius * 0.5, 0)
    elif shape == "moon":
        _disc(draw, middle, middle, radius, 255)
        away = 0.52 * radius
        _disc(draw, middle + away * math.cos(turn), middle + away * math.sin(turn), radius * 0.82, 0)
    else:
        angle = tilt if shape in ("square", "heart", "cross") else turn
        draw.polygon(_turned(_OUTLINES[shape], angle, middle, radius), fill=255)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _turned(outline: NDArray[np.float64], angle: float, middle: float, radius: float) -> list[tuple[float, float]]:
    sine, cosine = math.sin(angle), math.cos(angle)
    points = outline @ np.array([[cosine, sine], [-sine, cosine]]) * radius + middle
    return [(float(x), float(y)) for x, y in points]


def _paint(texture: str, colour: NDArray[np.float64], side: int, rng: np.random.Generator) -> Image.Image:
    """Return a square of `texture`: the colour, and for patterns a second tone of it that stands out."""
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    phase = rng.uniform(0, 6, 2)
    rows, columns = rows + phase[0], columns + phase[1]
    if texture == "striped":
        angle = rng.uniform(0, math.pi)
        second = np.sin((rows * math.sin(angle) + columns * math.cos(angle)) * (2 * math.pi / 9)) > 0.1
    elif texture == "dotted":
        second = np.hypot(rows % 8 - 3.5, columns % 8 - 3.5) < 2.6
    elif texture == "checked":
        second = (rows // 6 + columns // 6) % 2 < 1
    else:
        second = np.zeros((side, side), bool)
    dark = colour.sum() > 330
    tone = colour * 0.45 if dark else colour + (255 - colour) * 0.62
    pixels = np.where(second[:, :, None], tone, colour)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _star() -> NDArray[np.float64]:
    angles = np.arange(10) * math.pi / 5 - math.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 1.05, 0.43)
    return np.column_stack([np.cos(angles) * reach, np.sin(angles) * reach])


def _heart() -> NDArray[np.float64]:
    t = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.column_stack([x, y]) / 17


def _triangle() -> NDArray[np.float64]:
    angles = np.arange(3) * 2 * math.pi / 3 - math.pi / 2
    return np.column_stack([np.cos(angles), np.sin(angles)]) * 1.05


_ARM = 0.3
_OUTLINES: dict[str, NDArray[np.float64]] = {
    "square": np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.8,
    "triangle": _triangle(),
    "star": _star(),
    "heart": _heart(),
    "cross": np.array(
        [
            *((-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)),
            *((_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)),
        ]
    ),
}
